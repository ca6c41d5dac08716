package limit

import (
	"context"
	"time"
)

// Limiter stores the states of keys. All clients of one Limiter share its counters. now is the clock
// that they share: a Limiter reads no clock. It forgets a state that no longer counts. The keys of one
// call differ from each other.
//
// An error means that the outcome is unknown: the call may or may not have taken effect.
type Limiter interface {
	// Charge charges every key once. If one of them refuses, it charges none, so that a client whose own
	// key refuses does not use up another client's.
	Charge(ctx context.Context, now time.Time, keys []Key) (Decision, error)
	// Refund undoes one charge of every key. It does nothing to a key without charges.
	Refund(ctx context.Context, now time.Time, keys []Key) error
	// Clear forgets all charges of every key.
	Clear(ctx context.Context, keys []Key) error
}

// Decision is the answer to a charge.
type Decision struct {
	Allowed    bool
	RetryAfter time.Duration // if refused, the time until all keys allow it
	// Tightest is the rule that refused, or the one that is nearest to refusing. It is empty if the
	// charge was allowed and all rules are Shared.
	Tightest Quota
	// Local says that this process decided alone; see [Failover].
	Local bool
}

// Quota describes what is left of a rule.
type Quota struct {
	Rule   string
	Limit  int           // charges at once
	Window time.Duration // the time in which as many become available again
	Left   int
	Reset  time.Duration // until all charges are available or, if none is left, the next one
}

// Decide charges keys in these states and returns the states after it. A refusal changes no state.
// Every Limiter decides by these rules.
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
