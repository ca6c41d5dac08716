package identity

// Observer is told what protects the logins, for metrics. Its methods must not block.
type Observer interface {
	// Limited reports a decision about an action (see package limit): whether it was allowed, and whether
	// the shared limits decided or, with Redis down, this replica's own.
	Limited(action string, allowed, shared bool)
	// Breached reports a check of a new password: "no", "yes" or "unavailable".
	Breached(answer string)
}

// unobserved is the Observer of a Service without one.
type unobserved struct{}

func (unobserved) Limited(string, bool, bool) {}
func (unobserved) Breached(string)            {}
