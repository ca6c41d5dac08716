package limit

import (
	"context"
	"time"
)

// Limiter stores one counter for each [Key], and forgets a counter that no longer has any effect. A
// Limiter reads no clock, because callers pass the time as now. The keys of one call must differ from
// each other.
//
// An error means that the call may or may not have taken effect.
type Limiter interface {
	// Charge charges every key once. If the limit of any key is reached, Charge refuses and charges no
	// key. Otherwise a client that is refused by its own limit would use up limits shared with others.
	Charge(ctx context.Context, now time.Time, keys []Key) (Decision, error)
	// Refund undoes the last charge of every key. It ignores a key without charges.
	Refund(ctx context.Context, now time.Time, keys []Key) error
	// Clear forgets all charges of every key.
	Clear(ctx context.Context, keys []Key) error
}

// Decision is the result of Charge.
type Decision struct {
	Allowed    bool
	RetryAfter time.Duration // if refused, how long until all keys allow a charge
	// Tightest describes the rule that refused the charge. If the charge was allowed, Tightest
	// describes the rule that allows the fewest further charges, or is the zero Quota if all rules are
	// Shared.
	Tightest Quota
	// Local says that the limiter of this process decided, not the one of all replicas; see [Failover].
	Local bool
}

// Quota describes how many charges of a key a rule still allows.
type Quota struct {
	Rule   string
	Limit  int           // how many charges the rule allows at once
	Window time.Duration // how long until all of the limit is available again
	Left   int           // how many further charges are allowed now
	Reset  time.Duration // how long until the whole limit is available; if Left is 0, how long until one charge is allowed
}

// Decide decides whether keys whose counters have these states may be charged. It returns the states
// after the charge, or the same states if it refuses. Every Limiter must decide like Decide.
func Decide(now time.Time, keys []Key, states []State) (after []State, d Decision) {
	at := now.UnixMilli()
	after = make([]State, len(keys))
	waits := make([]time.Duration, len(keys))
	for i, k := range keys {
		after[i], waits[i] = k.Rule.charge(states[i], at)
		d.RetryAfter = max(d.RetryAfter, waits[i])
	}
	d.Allowed = d.RetryAfter == 0
	if !d.Allowed {
		after = states
	}
	for i, k := range keys {
		if d.Allowed && k.Rule.Shared || !d.Allowed && waits[i] == 0 {
			continue
		}
		q := Quota{Rule: k.Rule.Name, Limit: k.Rule.Burst, Window: k.Rule.window(), Reset: waits[i]}
		if d.Allowed {
			q.Left, q.Reset = k.Rule.left(after[i], at)
		}
		if t := d.Tightest; t.Rule == "" || q.Left < t.Left || q.Left == t.Left && q.Reset > t.Reset {
			d.Tightest = q
		}
	}
	return after, d
}
