package limit

import (
	"math"
	"time"
)

// State is what a [Limiter] stores for a key, in Unix milliseconds. The zero State is that of a key
// that was never charged.
type State struct {
	Full int64 // bucket: when it is full again

	Count        int64 // backoff counter: the number of charges
	Last, Before int64 // backoff counter: the last charge and the one before it
}

// charge returns the state after one more charge, or how long to wait before it.
func (r Rule) charge(s State, now int64) (State, time.Duration) {
	s = r.current(s, now)
	if r.Every > 0 {
		full := max(s.Full, now) + r.every()
		if early := full - now - int64(r.Burst)*r.every(); early > 0 {
			return s, millis(early)
		}
		return State{Full: full}, 0
	}
	if wait := r.wait(s.Count); wait > 0 && now < s.Last+wait {
		return s, millis(s.Last + wait - now)
	}
	return State{Count: s.Count + 1, Last: max(s.Last, now), Before: s.Last}, 0
}

// refund returns the state without its last charge.
func (r Rule) refund(s State, now int64) State {
	if r.Every > 0 {
		s.Full -= r.every()
	} else {
		s = State{Count: s.Count - 1, Last: s.Before, Before: s.Before}
	}
	return r.current(s, now)
}

// current returns the state, or the zero State if it no longer counts.
func (r Rule) current(s State, now int64) State {
	if r.expiry(s) <= now {
		return State{}
	}
	return s
}

// expiry returns when the state no longer differs from that of a new key.
func (r Rule) expiry(s State) int64 {
	switch {
	case r.Every > 0:
		return s.Full
	case s.Count <= 0:
		return 0
	default:
		return s.Last + BackoffMemory.Milliseconds()
	}
}

// left returns how many charges are available now. reset is how long until all are, or, if none is
// available, until the next one is.
func (r Rule) left(s State, now int64) (n int, reset time.Duration) {
	s = r.current(s, now)
	n = r.Burst - int(s.Count)
	if r.Every > 0 {
		n = int((int64(r.Burst)*r.every() - max(s.Full-now, 0)) / r.every())
	}
	if n > 0 {
		return n, millis(max(r.expiry(s)-now, 0))
	}
	_, wait := r.charge(s, now)
	return 0, wait
}

// wait returns how long a backoff counter with so many charges waits after the last one.
func (r Rule) wait(count int64) int64 {
	over := count - int64(r.Burst)
	if over < 0 {
		return 0
	}
	doubled := float64(FirstWait.Milliseconds()) * math.Exp2(float64(over))
	return int64(min(doubled, float64(MaxWait.Milliseconds())))
}

func (r Rule) every() int64 { return r.Every.Milliseconds() }

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
