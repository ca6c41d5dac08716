package limit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rule says how often one [Key] may be charged. There are two kinds of rules.
//
// If Every is set, the counter is a bucket: it holds Burst charges, and gets one back each Every. (The
// algorithm is GCRA, which stores only when the bucket will be full again.) If Backoff is set, the counter
// is a backoff counter: Burst charges are free. Before each further charge the client has to wait, first
// for [FirstWait] and then twice as long each time, up to Backoff.
type Rule struct {
	Name           string // in lower case, with dashes
	Burst          int
	Every, Backoff time.Duration // one of them is set, in whole milliseconds
	// Shared marks a rule whose counters several clients use, such as that of an account. Responses do
	// not say how many charges are left, because that would reveal what the other clients did.
	Shared bool
	Counts string // what is counted, for the documentation
}

// A backoff counter refuses charges for FirstWait at first. It forgets its charges when BackoffMemory has
// passed since the last one.
const (
	FirstWait     = time.Second
	BackoffMemory = 24 * time.Hour
)

// The bounds of the numbers that a setting may give to a rule. A counter then has at most 15 digits, which
// the scripts in Redis require. A backoff counter must not forget its charges while it refuses the next one.
const (
	maxBurst   = 1_000_000
	maxEvery   = 24 * time.Hour
	maxBackoff = 12 * time.Hour
)

// MarshalText returns the rule's numbers as the settings have them, such as "100/10s": how many charges are
// allowed at once, and the time after which one more is allowed. A backoff counter allows one more after
// that time at the latest.
func (r Rule) MarshalText() ([]byte, error) {
	period := max(r.Every, r.Backoff).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(period, zero) {
			period = period[:len(period)-2]
		}
	}
	return fmt.Appendf(nil, "%d/%s", r.Burst, period), nil
}

// UnmarshalText sets the rule's numbers. The rule must already say whether its counter is a bucket.
func (r *Rule) UnmarshalText(text []byte) error {
	before, after, found := strings.Cut(string(text), "/")
	burst, errBurst := strconv.Atoi(before)
	period, errPeriod := time.ParseDuration(after)
	field, least, most := &r.Every, time.Millisecond, maxEvery
	if r.Backoff > 0 {
		field, least, most = &r.Backoff, FirstWait, maxBackoff
	}
	if !found || errBurst != nil || errPeriod != nil || burst < 1 || burst > maxBurst ||
		period < least || period > most || period%time.Millisecond != 0 {
		return fmt.Errorf("want BURST/PERIOD, such as %d/%v: a number up to %d, and a duration from %v to %v", r.Burst, *field, maxBurst, least, most)
	}
	r.Burst, *field = burst, period
	return nil
}

// Key names one bucket or backoff counter.
type Key struct {
	Rule Rule
	ID   string // 22 URL-safe characters
}

// Of returns the key of the rule for some texts, such as a client address or an account name.
func (r Rule) Of(texts ...string) Key { return Key{Rule: r, ID: Hash(texts...)} }

// Hash returns the hash of some texts that stands for them in keys and in the log. So the length of a text
// does not matter, and nobody can read it.
func Hash(texts ...string) string {
	h := sha256.New()
	for _, text := range texts {
		// The lengths are hashed too. Otherwise the texts "a", "bc" and "ab", "c" would have the same key.
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		h.Write([]byte(text))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// window returns how long it takes until all of the rule's Burst is available again.
func (r Rule) window() time.Duration {
	if r.Every > 0 {
		return time.Duration(r.Burst) * r.Every
	}
	return BackoffMemory
}
