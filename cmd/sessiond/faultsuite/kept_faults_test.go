package faultsuite

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// keptSession: a user revokes all other sessions, or changes the password, while another session of
// the user is backfilled through another replica. The session that is kept must stay signed in. In
// turn, Redis is as fast as usual, slow for the replica that revokes, and refuses that replica's
// writes.
var keptSession = fault{
	number: 20, name: "kept session beside backfills", short: 20, long: 1000,
	promise: "no wrong 401",
	run: func(r *row) {
		began := r.count()
		hit := 0
		for i := range r.n {
			before := r.count().refused
			r.keepOne(i)
			if r.count().refused > before {
				hit++
			}
			r.done++
		}
		_ = began
		r.notes = append(r.notes, fmt.Sprintf("kept session signed out in %d of %d attempts", hit, r.n))
	},
}

// keepOne is one attempt. Every tenth one changes the password, which costs two hashes.
func (r *row) keepOne(i int) {
	p := r.probe
	revoker, reader, checker := r.rig.replicas[i%3], r.rig.replicas[(i+1)%3], r.rig.replicas[(i+2)%3]
	redis := r.rig.nodes[0]
	kept := p.active()[0]
	await(r.t, "a user signs in", func() bool { return r.login(p, revoker) != nil })
	await(r.t, "the kept session is in Redis", func() bool { return r.check(p, kept, checker).answer == good })
	unknown := p.active()[1] // nobody has checked it, so Redis does not know it

	r.begin()
	switch i % 3 {
	case 1:
		revoker.redis[redis].slow(150 * time.Millisecond)
	case 2:
		redis.do(fmt.Sprintf("ACL SETUSER r%d -@write -@scripting", revoker.i))
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for _, c := range []struct {
		s  *session
		at *replica
	}{{unknown, reader}, {kept, checker}, {kept, reader}} {
		wg.Go(func() {
			for !stop.Load() {
				r.check(p, c.s, c.at)
			}
		})
	}
	if i%10 == 9 {
		r.changePassword(p, kept, revoker)
	} else {
		r.revokeOthers(p, kept, revoker)
	}
	revoker.redis[redis].heal()
	redis.do(fmt.Sprintf("ACL SETUSER r%d +@all", revoker.i))
	stop.Store(true)
	wg.Wait()
	r.healed()
	p.mu.Lock()
	p.sessions = []*session{kept}
	p.mu.Unlock()
	r.awaitWell()
}
