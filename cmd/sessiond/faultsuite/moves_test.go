package faultsuite

import (
	"fmt"
	"time"
)

// thereAndBack: all replicas move to another Redis, another prefix or another database, and back
// again later. What was revoked in between must stay revoked, although the first Redis does not
// know of it.
var thereAndBack = fault{
	number: 19, name: "REDIS_URL, prefix or database changed and back", short: 1, long: 60,
	promise: "safe; replicas on the wrong side check by Postgres",
	run: func(r *row) {
		there := r.rig.addNode(fmt.Sprint("redis-", len(r.rig.nodes)))
		hit := 0
		for i := range r.n {
			before := r.count().accepted
			r.move(i, there)
			if r.count().accepted > before {
				hit++
			}
		}
		r.notef("revived in %d of %d moves", hit, r.n)
	},
}

// move is one move there and back: by URL, by prefix and by the number of the database in turn, at
// once and rolling in turn.
func (r *row) move(i int, there *node) {
	away := func(replica *replica) map[string]string {
		switch i % 3 {
		case 0:
			return map[string]string{"REDIS_URL": replica.singleURL(there)}
		case 1:
			return map[string]string{"REDIS_PREFIX": "other:"}
		default:
			return map[string]string{"REDIS_URL": replica.redisURL() + "/1"}
		}
	}
	home := func(replica *replica) map[string]string {
		return map[string]string{"REDIS_URL": replica.redisURL(), "REDIS_PREFIX": ""}
	}
	p := r.newPerson(6)
	sessions := p.active()
	change := func(to func(*replica) map[string]string) {
		step := func(replica *replica) { replica.restart(to(replica)); replica.await() }
		if i%2 == 0 {
			r.rig.all(step)
		} else {
			for n, replica := range r.rig.replicas {
				step(replica)
				if n == 0 {
					r.revokeOnOldSide(p, sessions[5], replica, r.rig.replicas[2])
				}
			}
		}
		r.awaitWell()
	}
	r.checkEverywhere(p, sessions...)
	r.inject(func() {
		change(away)
		for _, s := range sessions[:3] { // once each way of naming a session
			r.untilAcknowledged(p, sessions[5], s)
		}
		if i%2 == 1 {
			r.revokeOthers(p, sessions[5], r.rig.replicas[i%3])
		}
		change(home)
		r.checkEverywhere(p, sessions...)
	})
}

// revokeOnOldSide revokes a session through a replica that still uses the old server, when the one
// that has moved trusts the new server.
func (r *row) revokeOnOldSide(p *person, by *session, moved, old *replica) {
	r.wait(2 * time.Second)
	if s := r.login(p, moved); s != nil {
		r.check(p, s, moved)
		r.revokeOne(p, by, s, old)
		r.checkEverywhere(p, s)
	}
}

// untilAcknowledged revokes a session, and asks again until that is acknowledged.
func (r *row) untilAcknowledged(p *person, by, s *session) {
	r.t.Helper()
	i := 0
	await(r.t, "a revocation is acknowledged", func() bool {
		i++
		return r.revokeOne(p, by, s, r.rig.replicas[i%3]).answer == good
	})
}
