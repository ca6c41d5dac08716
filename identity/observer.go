package identity

// Observer is told what the protection of logins does, for metrics. Its methods
// must not block.
type Observer interface {
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

func (unobserved) Limited(string, bool, bool) {}
func (unobserved) Breached(string)            {}
