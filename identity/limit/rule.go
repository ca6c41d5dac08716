package limit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// Rule says how often one [Key] may be charged. There are two kinds of rules.
//
// If Every is set, the counter is a bucket: it holds Burst charges, and gets one back each Every. (The
// algorithm is GCRA, which stores only when the bucket will be full again.) If Every is 0, the counter
// is a backoff counter: Burst charges are free. Before each further charge the client has to wait, first
// for [FirstWait] and then twice as long each time, up to [MaxWait].
type Rule struct {
	Name  string // in lower case, with dashes
	Burst int
	Every time.Duration // whole milliseconds
	// Shared marks a rule whose counters several clients use, such as that of an account. Responses do
	// not say how many charges are left, because that would reveal what the other clients did.
	Shared bool
}

// A backoff counter refuses charges for FirstWait at first and for MaxWait at most. It forgets its charges
// when BackoffMemory has passed since the last one.
const (
	FirstWait     = time.Second
	MaxWait       = time.Hour
	BackoffMemory = 24 * time.Hour
)

// Key names one bucket or backoff counter.
type Key struct {
	Rule Rule
	ID   string // 22 URL-safe characters
}

// Of returns the key of the rule for some texts, such as a client address or an account name. The key
// holds a hash of the texts, so their length does not matter.
func (r Rule) Of(texts ...string) Key {
	h := sha256.New()
	for _, text := range texts {
		// The lengths are hashed too. Otherwise the texts "a", "bc" and "ab", "c" would have the same key.
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		h.Write([]byte(text))
	}
	return Key{Rule: r, ID: base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])}
}

// window returns how long it takes until all of the rule's Burst is available again.
func (r Rule) window() time.Duration {
	if r.Every > 0 {
		return time.Duration(r.Burst) * r.Every
	}
	return BackoffMemory
}
