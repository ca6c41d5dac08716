package faultsuite

import (
	"syscall"
	"time"
)

// Faults of a single Redis: its data, its process and what it refuses.

var redisKilled = fault{
	number: 1, name: "Redis killed, back empty after 1 s", short: 2, long: 200,
	promise: "at least 99.9 % of checks answered, p99 at most 250 ms",
	limits:  limits{answered: 99.9, p99: 250 * time.Millisecond},
	run: func(r *row) {
		redis := r.rig.nodes[0]
		r.each(time.Second, redis.kill, redis.restart)
	},
}

var redisFlushed = fault{
	number: 2, name: "FLUSHALL under many sessions", short: 3, long: 200,
	promise: "no 5xx; at least 99 % of checks are hits again within 60 s",
	limits:  limits{answered: 100},
	run: func(r *row) {
		r.each(time.Second, func() { r.rig.nodes[0].do("FLUSHALL") }, func() {})
	},
}

var redisRestored = fault{
	number: 3, name: "Redis restarts from an old file", short: 1, long: 200,
	promise: "safe",
	run: func(r *row) {
		redis := r.rig.nodes[0]
		for range r.n {
			redis.do("SAVE")
			r.wait(2 * time.Second) // revocations that the file does not know
			r.inject(func() {
				redis.kill()
				redis.restart()
			})
			redis.forget()
		}
	},
}

var redisCutOff = fault{
	number: 7, name: "one replica cut off from Redis only", short: 3, long: 200,
	promise: "at least 99 % of its checks answered, by Postgres",
	run: func(r *row) {
		redis := r.rig.nodes[0]
		checks, answered := 0, 0 // at the replica that is cut off
		for i := range r.n {
			replica := r.rig.replicas[i%3]
			cut := []func(*link){(*link).cutAll, (*link).blackHole, (*link).halfOpen}[i/3%3]
			before := r.now()
			r.inject(func() {
				cut(replica.redis[redis])
				r.revokeSome(3)
				r.wait(time.Second)
				replica.redis[redis].heal()
			})
			for _, o := range r.during(func(o op) bool { return o.kind == check && o.at == replica.name() && o.start > before }) {
				if checks++; o.answer != unavailable {
					answered++
				}
			}
		}
		r.promised(answered*100 >= checks*99, "answered at the replica that is cut off: %d of %d", answered, checks)
	},
}

var redisHangs = fault{
	number: 8, name: "Redis 1 s slow, or stopped", short: 2, long: 200,
	promise: "p99 of checks at most 250 ms, also of those a second later; no growth of goroutines",
	limits:  limits{p99: 250 * time.Millisecond},
	run: func(r *row) {
		redis := r.rig.nodes[0]
		before := 0
		for i := range r.n {
			if i < 3 { // until the clients have all their connections
				before = max(before, r.rig.goroutines())
			}
			hang := 3 * time.Second
			if isLong() && i%20 == 1 {
				hang = 30 * time.Second
			}
			r.inject(func() {
				if i%2 == 0 {
					r.rig.links(redis, func(l *link) { l.slow(time.Second) })
					r.wait(3 * time.Second)
					r.rig.links(redis, (*link).heal)
				} else {
					redis.proc.signal(syscall.SIGSTOP)
					r.wait(hang)
					redis.proc.signal(syscall.SIGCONT)
				}
			})
		}
		var late []time.Duration // latency of checks that began when the breakers had had a second
		for _, o := range r.during(func(o op) bool { return o.kind == check && o.start > r.faultOf(o).from+time.Second }) {
			late = append(late, o.end-o.start)
		}
		r.notef("checks from 1 s on took %s", spread(late))
		after := r.rig.goroutines()
		r.promised(after < before+before/2, "goroutines %d before, %d after", before, after)
	},
}

var redisFull = fault{
	number: 9, name: "Redis out of memory, under four policies", short: 4, long: 200,
	promise: "revocations and logins still work",
	run: func(r *row) {
		redis := r.rig.nodes[0]
		policies := []string{"noeviction", "allkeys-lru", "volatile-lru", "volatile-ttl"}
		worked := 0
		for i := range r.n {
			r.inject(func() {
				redis.do("CONFIG SET maxmemory-policy " + policies[i%4])
				redis.do("CONFIG SET maxmemory 1mb")
				worked += r.revokeSome(3)
				r.wait(time.Second)
				redis.do("CONFIG SET maxmemory 0")
			})
		}
		r.promised(worked == 3*r.n, "meanwhile %d of %d revocations acknowledged", worked, 3*r.n)
	},
}

var redisDropsClients = fault{
	number: 10, name: "maxclients, CLIENT KILL each second, SCRIPT FLUSH", short: 1, long: 200,
	promise: "recovered at most 2 s after it",
	limits:  limits{recovery: 2 * time.Second},
	run: func(r *row) {
		redis := r.rig.nodes[0]
		for range r.n {
			r.inject(func() {
				for range 3 {
					redis.do("CLIENT KILL TYPE normal SKIPME yes")
					redis.do("SCRIPT FLUSH")
					r.wait(time.Second)
				}
				redis.do("CONFIG SET maxclients 5") // fewer than the suite and the replicas want
				redis.do("CLIENT KILL TYPE normal SKIPME yes")
				r.wait(2 * time.Second)
				await(r.t, "maxclients is raised again", func() bool {
					_, err := redis.try("CONFIG SET maxclients 10000")
					if err != nil { // other clients took all places
						r.rig.links(redis, (*link).drop)
					}
					return err == nil
				})
			})
		}
	},
}

var bothStoresDown = fault{
	number: 14, name: "both stores down", short: 1, long: 200,
	promise: "only 503; recovered at most 5 s after it",
	limits:  limits{recovery: 5 * time.Second},
	run: func(r *row) {
		redis, pg := r.rig.nodes[0], r.rig.postgres
		r.each(2*time.Second,
			func() { redis.kill(); pg.crash() },
			func() { redis.restart(); pg.start(); pg.await() })
	},
}
