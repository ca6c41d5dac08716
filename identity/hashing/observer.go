package hashing

import "time"

// Observer is told what the queue does, for metrics. Its methods must not block.
type Observer interface {
	// Hashed reports a password hash: how long it waited for its turn, and how long it took.
	Hashed(waited, took time.Duration)
	// Shed reports a request that was turned away because too many wait: "full", "account" or "late".
	Shed(reason string)
}

// unobserved is the Observer of a queue without one.
type unobserved struct{}

func (unobserved) Hashed(time.Duration, time.Duration) {}
func (unobserved) Shed(string)                         {}
