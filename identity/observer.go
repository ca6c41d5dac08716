package identity

import "time"

// Observer is told what the protection of logins does, for metrics. Its methods
// must not block.
type Observer interface {
	// Hashed tells of a password hash: how long it waited for its turn, and worked.
	Hashed(waited, took time.Duration)
	// Shed tells of a request that was turned away because too many wait: "full",
	// "account" or "late".
	Shed(reason string)
	// Limited tells what the limits said of an action ("login", …): allowed or
	// refused, and whether the limits were the shared ones or, with Redis down,
	// this replica's own.
	Limited(action string, allowed, shared bool)
	// Breached tells how the question whether a password is known to be
	// breached was answered: "no", "yes" or "unavailable".
	Breached(answer string)
}

// unobserved is the Observer of who has none.
type unobserved struct{}

func (unobserved) Hashed(time.Duration, time.Duration) {}
func (unobserved) Shed(string)                         {}
func (unobserved) Limited(string, bool, bool)          {}
func (unobserved) Breached(string)                     {}
