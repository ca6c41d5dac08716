package limit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// Rule says how often an action may be charged to one key.
//
// A rule with Every is a bucket of Burst charges that refills by one charge each Every (GCRA: all that
// is stored is when the bucket is full again). A rule without Every is a backoff counter: Burst charges
// are free, and each charge after that doubles the wait before the next one, from [FirstWait] to
// [MaxWait].
type Rule struct {
	Name  string // in lower case, with dashes
	Burst int
	Every time.Duration // whole milliseconds
	// Shared marks a rule whose keys several clients are charged to. Clients do not learn what is left of
	// it, because that would reveal what the others did.
	Shared bool
}

// The waits of a backoff counter, and how long it remembers its charges after the last one.
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

// Of returns the rule's key for texts of any length and form. The key holds a hash of them.
func (r Rule) Of(texts ...string) Key {
	h := sha256.New()
	for _, text := range texts {
		// The lengths are hashed too. Otherwise "a", "bc" would be the same as "ab", "c".
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		h.Write([]byte(text))
	}
	return Key{Rule: r, ID: base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])}
}

// window returns the time in which all of the rule's burst becomes available again.
func (r Rule) window() time.Duration {
	if r.Every > 0 {
		return time.Duration(r.Burst) * r.Every
	}
	return BackoffMemory
}
