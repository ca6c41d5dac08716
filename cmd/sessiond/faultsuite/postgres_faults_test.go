package faultsuite

import (
	"database/sql"
	"time"
)

// Faults of Postgres.

var postgresAway = fault{
	number: 12, name: "Postgres crashed, read-only, or its connections all busy", short: 3, long: 200,
	promise: "no failed check of a session that is in Redis; writes answer 503 within 300 ms; refresh tokens survive",
	run: func(r *row) {
		pg := r.rig.postgres
		failed, checks := 0, 0
		for i := range r.n {
			known := r.probe.active()[0]
			r.inject(func() {
				heal := func() {}
				switch i % 3 {
				case 0:
					pg.crash()
					heal = func() { pg.start(); pg.await() }
				case 1:
					pg.readOnly(true)
					heal = func() { pg.readOnly(false) }
				case 2: // every connection of every replica waits for this lock
					heal = r.lockSessions()
				}
				for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
					for _, at := range r.rig.replicas {
						checks++
						if r.check(r.probe, known, at).answer != good {
							failed++
						}
					}
					r.wait(20 * time.Millisecond)
				}
				heal()
			})
		}
		r.promised(failed == 0, "failed checks of a session that is in Redis: %d of %d", failed, checks)
		var took []time.Duration
		soon := 0
		for _, o := range r.during(func(o op) bool { return o.kind != check && o.status == 503 }) {
			if took = append(took, o.end-o.start); o.end-o.start <= 300*time.Millisecond {
				soon++
			}
		}
		r.notef("writes answered 503: %d, within 300 ms %d, after %s", len(took), soon, spread(took))
	},
}

// lockSessions locks the table of sessions, and returns a function that unlocks it.
func (r *row) lockSessions() (unlock func()) {
	r.t.Helper()
	var tx *sql.Tx
	await(r.t, "the table of sessions is locked", func() bool {
		var err error
		if tx, err = r.rig.db.Begin(); err != nil {
			return false
		}
		if _, err = tx.Exec("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE"); err != nil {
			_ = tx.Rollback() // a deadlock with a transaction of a replica
		}
		return err == nil
	})
	return func() { _ = tx.Rollback() }
}

// cutCommit: the connection is cut inside the COMMIT of a login, a refresh, a revocation or a change
// of the password, before or after Postgres got it. The client may repeat the request.
var cutCommit = fault{
	number: 13, name: "connection cut inside COMMIT", short: 4, long: 200,
	promise: "503, and a retry is safe",
	run: func(r *row) {
		for i := range r.n {
			r.cutOne(i)
			r.done++
		}
	},
}

func (r *row) cutOne(i int) {
	p, at := r.probe, r.rig.replicas[i%3]
	await(r.t, "a user signs in", func() bool { return r.login(p, at) != nil })
	active := p.active()
	keep, s := active[0], active[1]
	request := []func() bool{
		func() bool { return r.login(p, at) != nil },
		func() bool { return r.refresh(p, s, at).answer == good },
		func() bool { return r.revokeOne(p, keep, s, at).answer == good },
		func() bool { return r.changePassword(p, keep, at).answer == good },
	}[i%4]
	r.begin()
	hit := at.postgres.loseReply("COMMIT", i/4%2 == 1)
	for range 20 { // another transaction may take the blow
		if !request() || len(p.active()) < 2 {
			break
		}
	}
	r.awaitClosed(hit)
	at.postgres.heal()
	r.healed()
	if i%4 == 2 { // so far nobody knows whether the session is revoked
		r.untilAcknowledged(p, keep, s)
	}
	await(r.t, "the request succeeds when repeated", func() bool { return i%4 == 2 || request() })
}

// lostCommit: the reply to the COMMIT of a refresh is lost, so the client gets a 503 and keeps its
// old refresh token. It comes back with it later than REFRESH_GRACE. It must stay signed in.
var lostCommit = fault{
	number: 21, name: "reply to a refresh's COMMIT lost", short: 3, long: 200,
	promise: "the old refresh token still works",
	run: func(r *row) {
		ended := 0
		for i := range r.n {
			if !r.loseCommit(i) {
				ended++
			}
		}
		r.notef("session ended as theft in %d of %d", ended, r.n)
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
		r.awaitClosed(hit)
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

// awaitClosed waits until a channel is closed.
func (r *row) awaitClosed(c <-chan struct{}) {
	r.t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		r.t.Fatal("no COMMIT passed")
	}
}
