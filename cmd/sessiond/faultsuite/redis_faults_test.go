package faultsuite

import (
	"time"
)

// Faults of a single Redis: its data, its process and what it refuses.

var redisKilled = fault{
	number: 1, name: "Redis killed, back empty after 1 s", short: 2, long: 200,
	promise: "at least 99.9 % of checks answered, p99 at most 250 ms",
	run: func(r *row) {
		redis := r.rig.nodes[0]
		r.each(time.Second, redis.kill, redis.restart)
	},
}

var redisFlushed = fault{
	number: 2, name: "FLUSHALL under many sessions", short: 3, long: 200,
	promise: "no 5xx; at least 99 % of checks are hits again within 60 s",
	run: func(r *row) {
		r.each(time.Second, func() { r.rig.nodes[0].do("FLUSHALL") }, func() {})
	},
}

var redisRestored = fault{
	number: 3, name: "Redis restarts from an old file", short: 1, long: 50,
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
