package faultsuite

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Faults of our own replicas, of their clients and of the machine.

var replicaKilled = fault{
	number: 15, name: "replica killed in the middle of requests; stopped between read and backfill", short: 3, long: 200,
	promise: "nothing lost; a late backfill revives nothing",
	run: func(r *row) {
		for i := range r.n {
			replica, elsewhere := r.rig.replicas[i/3%3], r.rig.replicas[(i/3+1)%3]
			switch i % 3 {
			case 0:
				r.killAmong(replica)
			case 1:
				r.stopBeforeBackfill(replica, elsewhere)
			case 2:
				r.holdReply(replica, elsewhere)
			}
		}
	},
}

// killAmong kills a replica while a login, a refresh and a revocation run at it.
func (r *row) killAmong(replica *replica) {
	users := []*person{r.newPerson(2), r.newPerson(2), r.newPerson(2)}
	r.inject(func() {
		var wg sync.WaitGroup
		for i, p := range users {
			wg.Go(func() {
				active := p.active()
				switch i {
				case 0:
					r.login(p, replica)
				case 1:
					r.refresh(p, active[0], replica)
				case 2:
					r.revokeOne(p, active[0], active[1], replica)
				}
			})
		}
		r.wait(time.Duration(rand.IntN(60)) * time.Millisecond)
		replica.proc.kill()
		wg.Wait()
		replica.start()
		replica.await()
	})
	r.refresh(users[1], users[1].active()[0], replica) // the old refresh token, if there was no reply
	for _, p := range users {
		r.checkEverywhere(p, p.sessions...)
	}
}

// stopBeforeBackfill stops a replica at a random moment of a check of a session that Redis does not
// know, and revokes the session elsewhere. What the replica then writes back must not revive it.
func (r *row) stopBeforeBackfill(replica, elsewhere *replica) {
	p := r.newPerson(6)
	active := p.active()
	r.inject(func() {
		for _, s := range active[1:] {
			var wg sync.WaitGroup
			wg.Go(func() { r.check(p, s, replica) })
			r.wait(time.Duration(rand.IntN(8000)) * time.Microsecond)
			replica.proc.signal(syscall.SIGSTOP)
			start := r.now()
			answer := r.browser.send("DELETE", elsewhere.base()+"/v1/sessions/"+s.name, active[0].token, nil)
			replica.proc.signal(syscall.SIGCONT)
			r.revoked(revoke, p, s.id, active[0], []*session{s}, elsewhere, start, answer)
			wg.Wait()
		}
	})
	r.checkEverywhere(p, active...)
}

// holdReply holds back Postgres' reply to a check of a session that Redis does not know. Meanwhile
// the session is revoked elsewhere and checked again. Neither that check nor a later one may use what
// Postgres said before.
func (r *row) holdReply(replica, elsewhere *replica) {
	p := r.newPerson(9)
	active := p.active()
	r.inject(func() {
		for n, s := range active[1:5] {
			r.check(p, active[5+n], replica) // prepares the statement on the connection that is used next
			var wg sync.WaitGroup
			replica.postgres.down.stall()
			wg.Go(func() { r.check(p, s, replica) })
			r.wait(50 * time.Millisecond) // Postgres has read the session
			heal := time.AfterFunc(350*time.Millisecond, replica.postgres.heal)
			if s != active[4] {
				r.revokeOne(p, active[0], s, elsewhere)
			} else { // Redis does not learn of the session itself
				r.revokeOthers(p, active[0], elsewhere)
			}
			wg.Wait()
			if heal.Stop() {
				replica.postgres.heal()
			}
			r.checkEverywhere(p, s)
		}
	})
}

// clientsVanish: one client in twenty closes its connection right after its request.
var clientsVanish = fault{
	number: 17, name: "clients vanish in the middle of requests", short: 1, long: 200,
	promise: "no reply reaches another client",
	run: func(r *row) {
		r.each(3*time.Second, func() {
			r.wg.Go(func() {
				for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
					p := r.people[rand.IntN(peopleCount)]
					at := r.rig.replicas[rand.IntN(3)]
					if s := p.any(); s != nil {
						p.mu.Lock()
						token := s.token
						p.mu.Unlock()
						vanish(local(at.port), token)
					}
				}
			})
		}, func() {})
	},
}

// vanish sends a check and leaves without waiting for the reply, at a random moment.
func vanish(addr, token string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	for range rand.IntN(3) { // some replies are read
		fmt.Fprintf(conn, "GET /v1/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token)
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
			return
		}
	}
	fmt.Fprintf(conn, "GET /v1/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token)
	time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
}

// busyMachine: Redis is wiped while other programs keep all cores busy. What the same load gets
// beside them with Redis warm is measured first.
var busyMachine = fault{
	number: 22, name: "wipe while 20 busy processes share the cores for 20 s", long: 20,
	promise: "in each second at least half of what the load gets with Redis warm; full speed at most 5 s after it",
	run: func(r *row) {
		people := r.enrol(r.t, 10, 100)
		for _, p := range people {
			r.checkEverywhere(p, p.active()...)
		}
		for range r.n {
			stop := r.hammer(people, 250, r.rig.replicas[0], r.rig.replicas[1], r.rig.replicas[2])
			full := r.answeredEachSecond(5 * time.Second)
			release := occupy(20)
			warm := r.answeredEachSecond(10 * time.Second)
			var cold []int
			r.inject(func() {
				r.rig.nodes[0].do("FLUSHALL")
				cold = r.answeredEachSecond(20 * time.Second)
				release()
			})
			after := r.answeredEachSecond(6 * time.Second)
			stop()
			half, again := median(warm)/2, median(full)*95/100
			r.promised(slices.Min(cold) >= half && after[5] >= again,
				"answered each second: alone %v, beside the processes %v, after the wipe %v, without the processes %v", full, warm, cold, after)
		}
	},
}

func median(numbers []int) int {
	numbers = slices.Sorted(slices.Values(numbers))
	return numbers[len(numbers)/2]
}

// occupy starts n processes that do nothing but keep the cores busy.
func occupy(n int) (release func()) {
	var hogs []*exec.Cmd
	for range n {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = childAttributes()
		if cmd.Start() == nil {
			hogs = append(hogs, cmd)
		}
	}
	return func() {
		for _, cmd := range hogs {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
}

// hammer checks the sessions of some people in turn at a rate until stop.
func (r *row) hammer(people []*person, rate int, at ...endpoint) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			tick := time.NewTicker(time.Second * 50 / time.Duration(rate))
			defer tick.Stop()
			for n := i; ; n++ {
				select {
				case <-done:
					return
				case <-tick.C:
				}
				p := people[n%len(people)]
				if s := p.any(); s != nil {
					r.check(p, s, at[n%len(at)])
				}
			}
		})
	}
	return func() { close(done); wg.Wait() }
}

// answeredEachSecond lets the load go on and returns how many checks were answered in each second.
func (r *row) answeredEachSecond(d time.Duration) []int {
	from := r.now()
	r.wait(d)
	r.mu.Lock()
	defer r.mu.Unlock()
	seconds := make([]int, int(d/time.Second))
	for _, o := range r.ops {
		if i := int((o.end - from) / time.Second); o.kind == check && o.answer != unavailable && o.end >= from && i < len(seconds) {
			seconds[i]++
		}
	}
	return seconds
}

// shutdownDelay is shorter than the documents advise, but HAProxy notices twice as fast.
const shutdownDelay = "3s"

// rolling: the replicas are restarted one after another behind HAProxy, each time with the other one of
// two versions. The first round migrates the tables. All clients send their requests through HAProxy.
var rolling = fault{
	number: 23, name: "rolling restart behind HAProxy, with a migration", on: upgrade, behind: true, short: 1, long: 10,
	promise: "no failed request through HAProxy, and nobody is signed out",
	run: func(r *row) {
		older, newer := programBefore(r.t), program(r.t)
		begin, again := r.now(), r.browser.again.Load()
		for i := range r.n {
			r.inject(func() {
				if i == 0 {
					r.notef("%s", strings.TrimSpace(output(r.t, settings(r.rig.env), newer, "migrate")))
				}
				for _, replica := range r.rig.replicas {
					replica.program = []string{newer, older}[i%2]
					replica.restart(nil)
					replica.await()
					r.wait(time.Second) // HAProxy sees it up again
				}
			})
			if recorded() {
				r.wait(6 * time.Second)
			}
		}
		r.stop()
		sent := map[kind]int{}
		failed, all := map[int]int{}, 0 // by status
		r.mu.Lock()
		for _, o := range r.ops {
			if o.at == r.rig.balancer.name() && o.start > begin {
				sent[o.kind]++
				all++
				if o.answer == unavailable || o.answer == odd {
					failed[o.status]++
					r.t.Logf("status %d from %v to %v, kind %d", o.status, o.start.Round(time.Millisecond), o.end.Round(time.Millisecond), o.kind)
				}
			}
		}
		r.mu.Unlock()
		if len(failed) > 0 {
			r.t.Logf("end of HAProxy's log:\n%s", r.rig.balancer.proc.tail())
			for _, replica := range r.rig.replicas {
				r.t.Logf("%s answered 503:\n%s", replica.name(), replica.proc.logged(`"status":503`))
			}
		}
		r.notef("requests that the client sent again %d", r.browser.again.Load()-again)
		r.promised(len(failed) == 0 && (all >= 100_000 || !recorded()), "failed requests through HAProxy, by status: %v of %d (checks and lists %d, logins %d, refreshes %d, revocations %d)",
			failed, all, sent[check], sent[login], sent[refresh], sent[revoke]+sent[revokeOthers]+sent[revokeAll])
	},
}
