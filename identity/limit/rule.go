package limit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"time"
)

// Rule says how often something may be done. A take is one time that it is.
//
// With Every it is a budget of Burst takes that grows by one more each Every
// (GCRA: it is kept as the one moment at which it is full again). Without, it
// is a backoff: Burst takes are free, and each one after that doubles the wait
// before the next, from [FirstWait] to [MostWait].
type Rule struct {
	Name  string // in lower case, with dashes
	Burst int
	Every time.Duration // whole milliseconds
	// Shared is set where others take of the same key: what is left of it is
	// told to nobody, since it says what they did.
	Shared bool
}

// The waits of a backoff, and how long its takes count after the last one.
const (
	FirstWait = time.Second
	MostWait  = time.Hour
	Memory    = 24 * time.Hour
)

// Key is whose takes a rule counts together.
type Key struct {
	Rule Rule
	ID   string // 22 URL-safe characters, whatever it was made of
}

// Of names a key of the rule by texts, which may be of any length and form: it
// keeps a hash of them.
func (r Rule) Of(texts ...string) Key {
	h := sha256.New()
	for _, text := range texts {
		// With their lengths, or "a", "bc" would be "ab", "c".
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		h.Write([]byte(text))
	}
	return Key{Rule: r, ID: base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])}
}

// State is what is kept of a key, in Unix milliseconds. The zero State is that
// of a key that nobody has taken of.
type State struct {
	Full int64 // of a budget: when it is full again

	Count        int64 // of a backoff: the takes
	Last, Before int64 // the last one, and the one before it
}

// charge returns the state after one more take, or how long to wait for it.
func (r Rule) charge(s State, now int64) (State, time.Duration) {
	s = r.still(s, now)
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

// refund returns the state without its last take.
func (r Rule) refund(s State, now int64) State {
	if r.Every > 0 {
		s.Full -= r.every()
	} else {
		s = State{Count: s.Count - 1, Last: s.Before, Before: s.Before}
	}
	return r.still(s, now)
}

// still is the state as far as it counts at a time.
func (r Rule) still(s State, now int64) State {
	if r.forgotten(s) <= now {
		return State{}
	}
	return s
}

// forgotten is when the state no longer differs from that of a new key.
func (r Rule) forgotten(s State) int64 {
	switch {
	case r.Every > 0:
		return s.Full
	case s.Count <= 0:
		return 0
	default:
		return s.Last + Memory.Milliseconds()
	}
}

// left is how many takes are to be had at once, and when that changes: when all
// are, or, if there is none, the next.
func (r Rule) left(s State, now int64) (n int, reset time.Duration) {
	s = r.still(s, now)
	n = r.Burst - int(s.Count)
	if r.Every > 0 {
		n = int((int64(r.Burst)*r.every() - max(s.Full-now, 0)) / r.every())
	}
	if n > 0 {
		return n, millis(max(r.forgotten(s)-now, 0))
	}
	_, wait := r.charge(s, now)
	return 0, wait
}

// window is the time in which the whole of a rule is to be had once more.
func (r Rule) window() time.Duration {
	if r.Every > 0 {
		return time.Duration(r.Burst) * r.Every
	}
	return Memory
}

// wait is how long after the last of so many takes of a backoff the next may be.
func (r Rule) wait(count int64) int64 {
	over := count - int64(r.Burst)
	if over < 0 {
		return 0
	}
	doubled := float64(FirstWait.Milliseconds()) * math.Exp2(float64(over))
	return int64(min(doubled, float64(MostWait.Milliseconds())))
}

func (r Rule) every() int64 { return r.Every.Milliseconds() }

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
