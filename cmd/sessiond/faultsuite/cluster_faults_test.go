package faultsuite

import (
	"fmt"
	"strings"
)

// Faults of a Cluster.

var clusterMoves = fault{
	number: 11, name: "Cluster: a slot moves, a move is abandoned, a master is killed", on: cluster, short: 1, long: 30,
	promise: "no CROSSSLOT; revocations work also in a slot that is half moved",
	run: func(r *row) {
		acked, asked, crossed := 0, 0, 0
		for i := range r.n {
			p := r.newPerson(8)
			active := p.active()
			r.checkEverywhere(p, active...)
			r.inject(func() {
				if i%2 == 0 {
					crossed += r.killMaster()
					return
				}
				finish := r.halfMove(p)
				revoke := func(f func(at endpoint) op) {
					asked++
					for try := range 3 { // a busy machine may answer 503 now and then
						if f(r.rig.replicas[(i+try)%3]).answer == good {
							acked++
							break
						}
					}
				}
				for _, s := range active[1:4] {
					revoke(func(at endpoint) op { return r.revokeOne(p, active[0], s, at) })
				}
				revoke(func(at endpoint) op { return r.revokeOthers(p, active[0], at) })
				finish()
			})
			r.checkEverywhere(p, active...)
			r.rig.awaitCluster()
		}
		for _, n := range r.rig.nodes {
			crossed += n.crossSlots()
		}
		r.promised(acked == asked, "acknowledged in a slot that is half moved: %d of %d", acked, asked)
		r.promised(crossed == 0, "CROSSSLOT replies: %d", crossed)
	},
}

// crossSlots returns how often the server has answered CROSSSLOT since it started.
func (n *node) crossSlots() (count int) {
	_, _ = fmt.Sscanf(n.info("errorstat_CROSSSLOT"), "count=%d", &count)
	return count
}

// halfMove moves half of a user's keys to another master, and returns a function that finishes it.
func (r *row) halfMove(p *person) (finish func()) {
	r.t.Helper()
	slot := r.rig.nodes[0].do(fmt.Sprintf("CLUSTER KEYSLOT {%s}", r.subject(p)))
	var from, to *node
	ids := map[*node]string{}
	for _, n := range r.rig.nodes {
		if n.info("role") != "master" {
			continue
		}
		ids[n] = fmt.Sprint(n.do("CLUSTER MYID"))
		if _, err := n.try(fmt.Sprintf("GET {%s}", r.subject(p))); err == nil || !strings.Contains(err.Error(), "MOVED") {
			from = n
		} else {
			to = n
		}
	}
	to.do(fmt.Sprintf("CLUSTER SETSLOT %d IMPORTING %s", slot, ids[from]))
	from.do(fmt.Sprintf("CLUSTER SETSLOT %d MIGRATING %s", slot, ids[to]))
	move := func(share int) {
		keys, _ := from.do(fmt.Sprintf("CLUSTER GETKEYSINSLOT %d 1000", slot)).([]any)
		for _, key := range keys[:(len(keys)+share-1)/share] {
			_, _ = from.try(fmt.Sprintf("MIGRATE 127.0.0.1 %d %v 0 5000", to.port, key))
		}
	}
	move(2)
	return func() {
		move(1)
		for _, n := range []*node{to, from} {
			n.do(fmt.Sprintf("CLUSTER SETSLOT %d NODE %s", slot, ids[to]))
		}
		for n := range ids {
			_, _ = n.try(fmt.Sprintf("CLUSTER SETSLOT %d NODE %s", slot, ids[to]))
		}
	}
}

// killMaster kills a master, waits until its replica has taken over, and starts it again. It returns
// how often the master had answered CROSSSLOT.
func (r *row) killMaster() (crossed int) {
	r.t.Helper()
	for _, n := range r.rig.nodes {
		if n.info("role") == "master" {
			crossed = n.crossSlots()
			n.kill()
			await(r.t, "a replica has taken over", func() bool {
				masters := 0
				for _, other := range r.rig.nodes {
					if other != n && other.info("role") == "master" {
						masters++
					}
				}
				return masters == 3
			})
			n.restart()
			break
		}
	}
	return crossed
}
