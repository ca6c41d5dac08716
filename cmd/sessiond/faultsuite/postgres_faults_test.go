package faultsuite

import (
	"fmt"
	"time"
)

// lostCommit: the reply to the COMMIT of a refresh is lost, so the client gets a 503 and keeps its
// old refresh token. It comes back with it later than REFRESH_GRACE. It must stay signed in.
var lostCommit = fault{
	number: 21, name: "reply to a refresh's COMMIT lost", short: 3, long: 60,
	promise: "the old refresh token still works",
	run: func(r *row) {
		ended := 0
		for i := range r.n {
			if !r.loseCommit(i) {
				ended++
			}
		}
		r.notes = append(r.notes, fmt.Sprintf("session ended as theft in %d of %d", ended, r.n))
	},
}

// loseCommit is one attempt. It reports whether the client is still signed in.
func (r *row) loseCommit(i int) bool {
	p := r.newPerson(1)
	s, at := p.active()[0], r.rig.replicas[i%3]
	r.check(p, s, at)
	r.begin()
	for { // the replica commits other things too, such as its outbox
		hit := at.postgres.loseReply("COMMIT", false)
		if r.refresh(p, s, at).answer == unavailable {
			select {
			case <-hit:
			default:
				continue
			}
			break
		}
		<-hit
	}
	at.postgres.heal()
	r.healed()
	// As if the client came back after 5 s, 35 s or an hour: the rotation moves into the past.
	away := []time.Duration{5 * time.Second, 35 * time.Second, time.Hour}[i%3]
	if _, err := r.rig.db.Exec("UPDATE sessions SET refresh_rotated_at = refresh_rotated_at - $1 * interval '1 second' WHERE id = $2", away.Seconds(), s.name); err != nil {
		r.t.Fatal(err)
	}
	var o op
	await(r.t, "the refresh is answered", func() bool {
		o = r.refresh(p, s, r.rig.replicas[(i+1)%3])
		return o.answer != unavailable
	})
	r.checkEverywhere(p, s)
	r.done++
	return o.answer == good
}
