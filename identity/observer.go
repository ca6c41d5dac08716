package identity

import "time"

// Observer is told what the protection of logins does, for metrics. Its methods
// must not block.
type Observer interface {
	// Hashed tells of a password hash: how long it waited for its turn, and worked.
	Hashed(waited, took time.Duration)
	// Shed tells of a request that was turned away because too many wait.
	Shed(reason string)
	// Limited tells what the limits said of an action: "allowed", "refused" or
	// "slowed", and by whom, "shared" or, with Redis down, "local".
	Limited(action, decision, by string)
	// Breached tells how the question whether a password is known to be
	// breached was answered: "no", "yes" or "unavailable".
	Breached(answer string)
}

// unobserved is the Observer of a [Service] that has none.
type unobserved struct{}

func (unobserved) Hashed(time.Duration, time.Duration) {}
func (unobserved) Shed(string)                         {}
func (unobserved) Limited(string, string, string)      {}
func (unobserved) Breached(string)                     {}
