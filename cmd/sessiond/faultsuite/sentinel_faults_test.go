package faultsuite

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Faults of a master with replicas: failovers, and two masters at once.

var failover = fault{
	number: 4, name: "Sentinel failover to a replica in sync, then to one that lags", on: sentinel, short: 1, long: 20,
	promise: "full speed again at most 5 s after it",
	run: func(r *row) {
		var trusted time.Duration // the longest time from a failover until checks trusted Redis
		missed := 0
		for range r.n {
			old := r.rig.master()
			var again <-chan time.Duration
			r.inject(func() {
				if r.done%2 == 1 { // the replicas miss what is written in the last second
					old.public.down.stall()
					missed += r.revokeSome(4)
				}
				old.kill()
				r.awaitOtherMaster(old)
				again = r.whenTrusted()
				old.public.heal()
				old.restart()
			})
			trusted = max(trusted, <-again)
			if isLong() || r.done < r.n { // the old master takes a while to follow the new one
				r.rig.awaitSentinels()
			}
		}
		r.notef("acknowledged, but missed by the replica that took over %d", missed)
		r.promised(trusted <= 5*time.Second, "all replicas trusted Redis again %v after the failover at the latest", trusted.Round(10*time.Millisecond))
	},
}

// whenTrusted sends the time that passes until the checks of all replicas trust Redis.
func (r *row) whenTrusted() <-chan time.Duration {
	began, passed := time.Now(), make(chan time.Duration, 1)
	r.wg.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for time.Since(began) < patience && slices.ContainsFunc(r.rig.replicas, func(at *replica) bool { return !r.trustsRedis(at) }) {
			<-tick.C
		}
		passed <- time.Since(began)
	})
	return passed
}

// trustsRedis reports whether a replica's checks trust Redis, by its metrics.
func (r *row) trustsRedis(at *replica) bool {
	metrics := r.browser.send("GET", "http://"+local(at.metrics)+"/metrics", "", nil).body
	return bytes.Contains(metrics, []byte("\nsessiond_redis_trusted 1\n"))
}

// plannedFailover plans three failovers in turn. After the last two, the clients' connections lead to
// the same master as before.
var plannedFailover = fault{
	number: 5, name: "planned FAILOVER; demote, resync and promote again on open connections", on: sentinel, long: 21,
	promise: "no failed check",
	run: func(r *row) {
		begin := r.now()
		for i := range r.n {
			old := r.rig.master()
			r.inject(func() { []func(*node){r.failOver, r.failOverAndBack, r.rewind}[i%3](old) })
			r.rig.awaitSentinels()
		}
		failed, checks := r.failedChecks(begin)
		r.promised(failed == 0, "failed checks: %d of %d", failed, checks)
	},
}

// failOver has a Sentinel do it.
func (r *row) failOver(old *node) {
	r.t.Helper()
	r.promote(old)
	r.awaitOtherMaster(old)
}

// failOverAndBack makes another server the master, and then the old one, before the Sentinels react.
func (r *row) failOverAndBack(old *node) {
	r.t.Helper()
	other := r.anyOther(old)
	for _, step := range [][2]*node{{old, other}, {other, old}} {
		step[0].do(fmt.Sprintf("FAILOVER TO 127.0.0.1 %d TIMEOUT 10000", step[1].public.port))
		r.awaitFollows(step[0], step[1])
	}
}

// rewind takes the master back to an earlier state: another server keeps that state, the master copies
// it, and is promoted again.
func (r *row) rewind(master *node) {
	r.t.Helper()
	other := r.anyOther(master)
	other.do("REPLICAOF NO ONE")
	r.revokeSome(2) // the other server does not learn of these
	follow := func(n, of *node) {
		n.do(fmt.Sprintf("REPLICAOF 127.0.0.1 %d", of.public.port))
		r.awaitFollows(n, of)
	}
	follow(master, other)
	r.revokeSome(1) // nobody can enforce it
	master.do("REPLICAOF NO ONE")
	follow(other, master)
}

func (r *row) awaitFollows(n, master *node) {
	r.t.Helper()
	await(r.t, n.name+" follows "+master.name, func() bool {
		return master.info("role") == "master" && n.info("role") == "slave" && n.info("master_link_status") == "up" &&
			n.info("master_port") == fmt.Sprint(master.public.port)
	})
}

// failedChecks returns how many of the checks since a moment had no answer, and how many there were. It
// logs the first failed ones.
func (r *row) failedChecks(since time.Duration) (failed, checks int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.ops {
		if o.kind == check && o.start >= since {
			checks++
			if o.answer == unavailable || o.answer == odd {
				if failed++; failed <= 5 {
					r.t.Logf("%s: status %d at %v, after %v, in a fault: %t", o.at, o.status, o.start.Round(time.Millisecond), (o.end - o.start).Round(time.Millisecond), r.inFault(o))
				}
			}
		}
	}
	return failed, checks
}

var isolatedMaster = fault{
	number: 6, name: "old master isolated with one replica of ours", on: sentinel, long: 20,
	promise: "it stops trusting within max-lag + 2 s",
	run:     func(r *row) { r.splits(false) },
}

var twoMasters = fault{
	number: 18, name: "two masters, healed after 12 s", on: sentinel, long: 20,
	promise: "none accepted at any replica, during it and for 60 s after",
	run: func(r *row) {
		if isLong() {
			r.after = time.Minute
		}
		r.splits(true)
	},
}

const splitFor = 12 * time.Second

// splits isolates the master together with one of our replicas. The links become black holes and are
// closed, in turn. The Sentinels promote another server, or in every second injection we ask them to,
// after a second. If both is true, users revoke on both sides.
func (r *row) splits(both bool) {
	oldSide, newSide, onBoth, revived := 0, 0, 0, 0
	var acked, trusted time.Duration // the latest moments at which the old side acknowledged, and trusted the master, from the split on
	for i := range r.n {
		before := r.count().accepted
		inside := r.rig.replicas[i%3]
		old := r.rig.master()
		ghost := r.newGhost(old, inside)
		p := r.newPerson(24)
		people := []*person{p}
		if both {
			people = append(people, r.newPerson(12))
		}
		for _, p := range people {
			r.checkEverywhere(p, p.active()...)
		}
		r.watch(splitFor+r.after, people...)
		r.inject(func() {
			began := time.Now()
			end := began.Add(splitFor)
			r.isolate(old, inside, i%4 < 2)
			var here, there int
			var wg sync.WaitGroup
			wg.Go(func() {
				var last time.Time
				if here, last = r.revokeUntil(end, 200*time.Millisecond, p, inside); here > 0 {
					acked = max(acked, last.Sub(began))
				}
			})
			wg.Go(func() { trusted = max(trusted, r.trustedUntil(end, ghost, inside).Sub(began)) })
			if both {
				wg.Go(func() { there, _ = r.revokeUntil(end, time.Second, people[1], r.others(inside)...) })
			}
			if i%2 == 1 { // by hand, sooner than the old master stops taking writes
				r.wait(time.Second)
				r.promote(old)
			}
			wg.Wait()
			if oldSide, newSide = oldSide+here, newSide+there; here > 0 && there > 0 {
				onBoth++
			}
			r.wait(time.Until(end))
			r.reconnect(old)
			if other := r.otherMaster(old); other != nil && i%2 == 1 {
				_, _ = old.try(fmt.Sprintf("REPLICAOF 127.0.0.1 %d", other.public.port))
			}
		})
		for _, p := range people {
			r.checkEverywhere(p, p.active()...)
		}
		r.rig.awaitSentinels()
		r.sweep()
		if r.count().accepted > before {
			revived++
		}
	}
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
	r.notef("acknowledged on the old side %d, on the new side %d, on both in %d, revived in %d of %d splits", oldSide, newSide, onBoth, revived, r.n)
	r.notef("last acknowledgement on the old side %v after the split", round(acked))
	r.promised(trusted <= stopsAfter, "last hit on the old side %v after the split", round(trusted))
}

// newGhost returns a session that this Redis server knows and the ledger does not. A replica accepts it
// exactly as long as it trusts that server. The history ignores these checks.
func (r *row) newGhost(on *node, at *replica) *session {
	r.t.Helper()
	p := r.newPerson(1)
	s := p.active()[0]
	key := fmt.Sprintf("s:{%s}:%s", r.subject(p), s.name)
	await(r.t, "Redis knows a session", func() bool {
		r.check(p, s, at)
		found, _ := on.try("EXISTS " + key)
		return found == int64(1)
	})
	p.mu.Lock()
	p.sessions = nil
	p.mu.Unlock()
	r.logins.Delete(s.name)
	if _, err := r.rig.db.Exec("DELETE FROM sessions WHERE id = $1", s.name); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// trustedUntil checks a ghost again and again until a moment. It returns when the last accepted check
// began, or the zero time.
func (r *row) trustedUntil(end time.Time, ghost *session, at *replica) (last time.Time) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for now := time.Now(); now.Before(end); now = <-tick.C {
		start := time.Now()
		if r.browser.send("GET", at.base()+"/v1/verify", ghost.token, nil).answer() == good {
			last = start
		}
	}
	return last
}

// watch checks the revoked sessions of some people at every replica, again and again for a while.
func (r *row) watch(d time.Duration, people ...*person) {
	r.wg.Go(func() {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
			for _, p := range people {
				r.checkEverywhere(p, p.over()...)
			}
		}
	})
}

// over returns the sessions that were revoked, or for which that was asked.
func (p *person) over() (list []*session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		if s.over {
			list = append(list, s)
		}
	}
	return list
}

// isolate cuts the old master off from its peers, from the Sentinels and from all replicas of ours
// but one, and that one off from everything else of Redis.
func (r *row) isolate(old *node, inside *replica, blackHole bool) {
	cut := (*link).cutAll
	if blackHole {
		cut = (*link).blackHole
	}
	cut(old.public)
	for _, n := range append(append([]*node{}, r.rig.nodes...), r.rig.sentinels...) {
		if n != old {
			cut(inside.redis[n])
		}
	}
	for _, replica := range r.others(inside) {
		cut(replica.redis[old])
	}
}

func (r *row) reconnect(old *node) {
	old.public.heal()
	for _, n := range append(append([]*node{}, r.rig.nodes...), r.rig.sentinels...) {
		r.rig.links(n, (*link).heal)
	}
}

func (r *row) others(inside *replica) (list []*replica) {
	for _, replica := range r.rig.replicas {
		if replica != inside {
			list = append(list, replica)
		}
	}
	return list
}

// promote asks a Sentinel for a failover and waits for it. A Sentinel refuses while one is under way.
func (r *row) promote(old *node) {
	r.t.Helper()
	await(r.t, "a Sentinel promotes another server", func() bool {
		if r.otherMaster(old) != nil {
			return true
		}
		_, _ = r.rig.sentinels[0].try("SENTINEL FAILOVER main")
		return false
	})
}

// anyOther returns a server that is not the master.
func (r *row) anyOther(master *node) *node {
	for _, n := range r.rig.nodes {
		if n != master {
			return n
		}
	}
	return nil
}

// otherMaster returns a master that is not old, or nil.
func (r *row) otherMaster(old *node) *node {
	for _, n := range r.rig.nodes {
		if n != old && n.info("role") == "master" {
			return n
		}
	}
	return nil
}

func (r *row) awaitOtherMaster(old *node) {
	r.t.Helper()
	await(r.t, "the Sentinels agree on another master", func() bool {
		m := r.rig.master()
		return m != nil && m != old
	})
}

// revokeUntil revokes a person's sessions at some replicas, one at each interval until a moment. It
// returns how many of the revocations were acknowledged, and when the last one was.
func (r *row) revokeUntil(end time.Time, interval time.Duration, p *person, at ...*replica) (acked int, last time.Time) {
	active := p.active()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i := 1; i < len(active) && time.Now().Before(end); i++ {
		if r.revokeOne(p, active[0], active[i], at[i%len(at)]).answer == good {
			acked, last = acked+1, time.Now()
		}
		<-tick.C
	}
	return acked, last
}
