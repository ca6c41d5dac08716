package limit

import (
	"math"
	"time"
)

// State is what a [Limiter] stores for a key. A key that was never charged has the zero State. All
// times are Unix milliseconds.
type State struct {
	Full int64 // for a bucket: when the bucket is full again

	Count        int64 // for a backoff counter: how many charges it remembers
	Last, Before int64 // for a backoff counter: times of the last charge and of the charge before that
}

// charge returns the state after one more charge or, if none is allowed now, how long to wait.
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

// current returns s, or the zero State if s has expired.
func (r Rule) current(s State, now int64) State {
	if r.expiry(s) <= now {
		return State{}
	}
	return s
}

// expiry returns the time from which this state limits nothing more than a new, empty state.
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

// left returns the number of charges that are allowed now, and the time until the whole Burst is
// available again. If no charge is allowed now, it returns the time until one is.
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

// wait returns for how many milliseconds after its last charge a backoff counter refuses the next one.
func (r Rule) wait(count int64) int64 {
	over := count - int64(r.Burst)
	if over < 0 {
		return 0
	}
	doubled := float64(FirstWait.Milliseconds()) * math.Exp2(float64(over))
	return int64(min(doubled, float64(r.Backoff.Milliseconds())))
}

func (r Rule) every() int64 { return r.Every.Milliseconds() }

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
