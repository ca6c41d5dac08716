package faultsuite

import (
	"fmt"
	"maps"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// clocksApart: the replicas' clocks are 60 s behind, right, and 60 s ahead. A replica takes its time
// from clock_timestamp() of Postgres, so each replica here finds a function of that name that is
// off. Moving all of them also lets time pass without waiting.
var clocksApart = fault{
	number: 16, name: "clocks 60 s apart", quiet: true, long: 20,
	promise: "no 401 before exp - 120 s; none accepted after exp + leeway + 60 s",
	run: func(r *row) {
		const ttl = 10 * time.Minute
		for range r.n {
			early, late := 0, 0
			r.inject(func() {
				r.setClocks(0, ttl)
				p := r.newPerson(6)
				active := p.active()
				r.checkEverywhere(p, active...)
				r.untilAcknowledged(p, active[0], active[1])
				issued, checkToken := r.revokeAmongClocks()
				accepted := func() (n int) {
					for _, at := range r.rig.replicas {
						for _, s := range active[2:] {
							if r.browser.send("GET", at.base()+"/v1/verify", s.token, nil).status == 200 {
								n++
							}
						}
					}
					return n
				}
				r.setClocks(ttl-130*time.Second, ttl)
				early = 12 - accepted()
				// That token has just expired. Redis still knows it, because its clock was not moved.
				r.setClocks((ttl - (r.now() - issued) + 3*time.Second).Round(time.Second), ttl)
				r.rig.nodes[0].do("FLUSHALL")
				checkToken()
				r.setClocks(ttl+160*time.Second, ttl) // the token may come from the replica that is ahead
				late = accepted()
				r.setClocks(0, 0)
			})
			r.promised(early+late == 0, "refused early %d of 12, accepted late %d of 12", early, late)
		}
	},
}

// revokeAmongClocks revokes sessions that began at all replicas through the one that is behind, and
// a single access token, which comes from the replica whose clock is right. It returns when that
// token was issued, and a function that checks the token again.
func (r *row) revokeAmongClocks() (issued time.Duration, checkToken func()) {
	r.t.Helper()
	p, q := r.newPerson(6), r.newPerson(1)
	r.checkEverywhere(p, p.active()...)
	await(r.t, "all other sessions are revoked", func() bool {
		return r.revokeOthers(p, p.active()[0], r.rig.replicas[0]).answer == good
	})
	issued = r.now()
	var s *session
	await(r.t, "a user signs in", func() bool { s = r.login(q, r.rig.replicas[1]); return s != nil })
	await(r.t, "a token is revoked", func() bool {
		start := r.now()
		reply := r.browser.send("POST", r.rig.replicas[1].base()+"/oauth/revoke", "", url.Values{"token": {s.token}})
		return r.revoked(revoke, q, s.id, nil, []*session{s}, r.rig.replicas[1], start, reply).answer == good
	})
	return issued, func() { r.checkEverywhere(q, s) }
}

// setClocks restarts the replicas with clocks that are shift ahead, and 60 s apart. A ttl of 0 gives
// them the right clock back.
func (r *row) setClocks(shift, ttl time.Duration) {
	r.t.Helper()
	r.rig.all(func(replica *replica) {
		url := r.rig.postgres.url(r.rig.database, replica.postgres.port)
		changes := map[string]string{"DATABASE_URL": url, "ACCESS_TOKEN_TTL": "1h"}
		if ttl != 0 {
			schema := fmt.Sprintf("clock_%d_%s", replica.i, strings.ReplaceAll(shift.String(), ".", "_"))
			off := shift + time.Duration(replica.i-1)*time.Minute
			for _, statement := range []string{
				"CREATE SCHEMA IF NOT EXISTS " + schema,
				fmt.Sprintf("CREATE OR REPLACE FUNCTION %s.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() + interval ''%d seconds'''", schema, int(off.Seconds())),
			} {
				if _, err := r.rig.db.Exec(statement); err != nil {
					r.t.Error(err)
				}
			}
			changes["DATABASE_URL"] = url + "&search_path=public," + schema + ",pg_catalog"
			changes["ACCESS_TOKEN_TTL"] = ttl.String()
		}
		replica.proc.stop(syscall.SIGTERM)
		maps.Copy(replica.env, changes)
	})
	if ttl == 0 {
		r.forgetFuture()
	}
	r.rig.all(func(replica *replica) { replica.start(); replica.await() })
}

// forgetFuture moves the times of epochs that lie in the future to now. Postgres' own clock did not
// move, but the replicas that were ahead wrote them. Otherwise every later epoch would count as
// retired, and the rows after this one would fail.
func (r *row) forgetFuture() {
	r.t.Helper()
	const now = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
	if _, err := r.rig.db.Exec("UPDATE redis_epochs SET registered_at = least(registered_at, " + now + "), confirmed_at = least(confirmed_at, " + now + ")"); err != nil {
		r.t.Fatal(err)
	}
}
