package limit

import (
	"context"
	"time"
)

// Limiter keeps the states of keys. All who share one share its budgets. now is
// the clock of those who share it: a Limiter reads none of its own. A state is
// forgotten when it no longer counts, and no key is kept for ever. The keys of
// one call differ from each other.
//
// An error means that nothing is known: whether it was done or not.
type Limiter interface {
	// Charge takes once of every key, or, if one of them refuses, of none: who is
	// refused for his own key has not used up another's.
	Charge(ctx context.Context, now time.Time, keys []Key) (Decision, error)
	// Refund undoes one take of every key. Of a key that has none it does nothing.
	Refund(ctx context.Context, now time.Time, keys []Key) error
	// Clear forgets all takes of every key.
	Clear(ctx context.Context, keys []Key) error
}

// Decision is the answer to a take.
type Decision struct {
	Allowed    bool
	RetryAfter time.Duration // when all keys would allow it, if it was refused
	// Tightest is the rule that is nearest to refusing, or that refused. It is
	// empty when it was allowed and all rules are Shared.
	Tightest Quota
	// Local tells that it was decided by this process alone; see [Failover].
	Local bool
}

// Quota is how much is left of a rule.
type Quota struct {
	Rule   string
	Limit  int           // at once
	Window time.Duration // until as much is to be had again
	Left   int
	Reset  time.Duration // until all of it is to be had; when nothing is left, until something is
}

// Decide takes of keys in these states. The states after it are those before
// when it is refused. It is how every Limiter decides.
func Decide(now time.Time, keys []Key, states []State) (after []State, d Decision) {
	at := now.UnixMilli()
	after = make([]State, len(keys))
	for i, k := range keys {
		var wait time.Duration
		after[i], wait = k.Rule.charge(states[i], at)
		d.RetryAfter = max(d.RetryAfter, wait)
	}
	d.Allowed = d.RetryAfter == 0
	if !d.Allowed {
		after = states
	}
	for i, k := range keys {
		_, wait := k.Rule.charge(states[i], at)
		if d.Allowed && k.Rule.Shared || !d.Allowed && wait == 0 {
			continue
		}
		q := Quota{Rule: k.Rule.Name, Limit: k.Rule.Burst, Window: k.Rule.window(), Reset: wait}
		if d.Allowed {
			q.Left, q.Reset = k.Rule.left(after[i], at)
		}
		if t := d.Tightest; t.Rule == "" || q.Left < t.Left || q.Left == t.Left && q.Reset > t.Reset {
			d.Tightest = q
		}
	}
	return after, d
}

// Forgotten is when a state of a key no longer counts.
func (k Key) Forgotten(s State) time.Time { return time.UnixMilli(k.Rule.forgotten(s)) }
