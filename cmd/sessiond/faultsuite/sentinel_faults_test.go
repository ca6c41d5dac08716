package faultsuite

import (
	"fmt"
	"sync"
	"time"
)

// Faults of a master with replicas: failovers, and two masters at once.

var failover = fault{
	number: 4, name: "Sentinel failover to a replica in sync, then to one that lags", on: sentinel, long: 20,
	promise: "full speed again at most 5 s after it",
	run: func(r *row) {
		for range r.n {
			old := r.rig.master()
			r.inject(func() {
				if r.done%2 == 1 { // the replicas miss what is written in the last second
					old.public.down.stall()
					r.revokeSome(4)
				}
				old.kill()
				r.awaitOtherMaster(old)
				old.public.heal()
				old.restart()
			})
			r.rig.awaitSentinels()
		}
	},
}

var plannedFailover = fault{
	number: 5, name: "planned FAILOVER; demote, resync and promote again on open connections", on: sentinel, long: 20,
	promise: "no failed check",
	run: func(r *row) {
		for range r.n {
			old := r.rig.master()
			r.inject(func() {
				if _, err := r.rig.sentinels[0].try("SENTINEL FAILOVER main"); err != nil {
					r.t.Log(err)
				}
				r.awaitOtherMaster(old)
			})
			r.rig.awaitSentinels()
		}
	},
}

var isolatedMaster = fault{
	number: 6, name: "old master isolated with one replica of ours", on: sentinel, long: 20,
	promise: "it stops trusting within max-lag + 1 s",
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

// splits isolates the master together with one of our replicas. The Sentinels promote another one,
// or in every second injection we do, after a second. If both is true, users revoke on both sides.
func (r *row) splits(both bool) {
	acked, revived := 0, 0
	var last time.Duration // when the old side acknowledged for the last time, from the split on
	for i := range r.n {
		before := r.count().accepted
		inside := r.rig.replicas[i%3]
		old := r.rig.master()
		p, q := r.newPerson(12), r.newPerson(12)
		r.checkEverywhere(p, p.active()...)
		r.checkEverywhere(q, q.active()...)
		r.inject(func() {
			began := time.Now()
			r.isolate(old, inside, i%4 < 2)
			var wg sync.WaitGroup
			wg.Go(func() {
				n, at := r.revokeUntil(p, []*replica{inside}, began.Add(12*time.Second))
				if acked += n; n > 0 {
					last = max(last, at.Sub(began))
				}
			})
			if both {
				wg.Go(func() { r.revokeUntil(q, r.others(inside), began.Add(12*time.Second)) })
			}
			if i%2 == 1 { // by hand, sooner than the old master stops taking writes
				r.wait(time.Second)
				r.promote(old)
			}
			wg.Wait()
			r.wait(time.Until(began.Add(12 * time.Second)))
			r.reconnect(old)
			if i%2 == 1 {
				_, _ = old.try(fmt.Sprintf("REPLICAOF 127.0.0.1 %d", r.otherMaster(old).public.port))
			}
		})
		r.checkEverywhere(p, p.active()...)
		r.checkEverywhere(q, q.active()...)
		r.rig.awaitSentinels()
		r.sweep()
		if r.count().accepted > before {
			revived++
		}
	}
	r.notef("acknowledged on the old side %d, the last one %v after the split, revived in %d of %d splits", acked, last.Round(100*time.Millisecond), revived, r.n)
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

// promote makes another server the master, as an operator would.
func (r *row) promote(old *node) {
	r.t.Helper()
	_, _ = r.rig.sentinels[0].try("SENTINEL FAILOVER main")
	for _, n := range r.rig.nodes {
		if n != old {
			n.do("REPLICAOF NO ONE")
			for _, other := range r.rig.nodes {
				if other != old && other != n {
					other.do(fmt.Sprintf("REPLICAOF 127.0.0.1 %d", n.public.port))
				}
			}
			return
		}
	}
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

// revokeUntil revokes a person's sessions one after another at some replicas until a moment. It
// returns how many of the revocations were acknowledged, and when the last one was.
func (r *row) revokeUntil(p *person, at []*replica, until time.Time) (acked int, last time.Time) {
	active := p.active()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for i := 1; i < len(active) && time.Now().Before(until); i++ {
		if r.revokeOne(p, active[0], active[i], at[i%len(at)]).answer == good {
			acked, last = acked+1, time.Now()
		}
		<-tick.C
	}
	return acked, last
}
