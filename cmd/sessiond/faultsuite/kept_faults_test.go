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
	number: 20, name: "kept session beside backfills", short: 10, long: 2000,
	promise: "no wrong 401",
	run: func(r *row) {
		hit, acked := 0, [2]int{}
		for i := range r.n {
			// A token lives an hour, and the judge of a session with a million checks needs all memory.
			if i%50 == 49 {
				r.probe = r.newPerson(1)
			}
			wrong, done := r.keepOne(i)
			if wrong {
				hit++
			}
			if done {
				acked[i%2]++
			}
			if r.done++; isLong() && r.done%100 == 0 {
				r.t.Logf("row 20: attempt %d of %d", r.done, r.n)
			}
		}
		r.notef("kept session signed out in %d of %d attempts; acknowledged: %d revocations of the others, %d changes of the password", hit, r.n, acked[0], acked[1])
	},
}

// keepOne is one attempt. Every second one changes the password, while logins with the old one are
// under way. It reports whether the kept session was signed out, and whether the revocation was
// acknowledged.
func (r *row) keepOne(i int) (wrong, done bool) {
	p := r.probe
	revoker, reader, checker := r.rig.replicas[i%3], r.rig.replicas[(i+1)%3], r.rig.replicas[(i+2)%3]
	redis := r.rig.nodes[0]
	kept := p.active()[0]
	await(r.t, "a user signs in", func() bool { return r.login(p, revoker) != nil })
	await(r.t, "the kept session is in Redis", func() bool { return r.check(p, kept, checker).answer == good })
	other := p.active()[1]
	entry := fmt.Sprintf("s:{%s}:%s", r.subject(p), other.name)

	r.begin()
	switch i % 3 {
	case 1:
		revoker.redis[redis].slow(150 * time.Millisecond)
	case 2:
		redis.do(fmt.Sprintf("ACL SETUSER r%d -@write -@scripting", revoker.i))
	}
	// Checks without a pause would keep all cores busy, and hashing a password gives way to checks.
	const pace = 5 * time.Millisecond
	var stop, refusedOnce atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for tick := time.Tick(pace); !stop.Load(); <-tick {
			redis.do("DEL " + entry) // as an eviction would
			r.check(p, other, reader)
		}
	})
	for _, at := range []*replica{checker, reader} {
		wg.Go(func() {
			for tick := time.Tick(pace); !stop.Load(); <-tick {
				if r.check(p, kept, at).answer == refused {
					refusedOnce.Store(true)
				}
			}
		})
	}
	if i%2 == 1 {
		done = r.changePasswordBesideLogins(p, kept, revoker).answer == good
	} else {
		done = r.revokeOthers(p, kept, revoker).answer == good
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
	return refusedOnce.Load(), done
}

// subject returns a user's id in the service.
func (r *row) subject(p *person) string {
	r.t.Helper()
	var subject string
	if err := r.rig.db.QueryRow("SELECT id FROM users WHERE username = $1", p.name).Scan(&subject); err != nil {
		r.t.Fatal(err)
	}
	return subject
}
