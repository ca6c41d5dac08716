package session

import (
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// SignatureCache remembers tokens whose signature was verified, since verifying
// takes longer than all else in a check. It remembers no answer: whether a
// token was revoked is asked each time.
//
// It holds a fixed number of tokens, the newest in place of older ones, so that
// a flood of distinct tokens cannot make it grow. Each is held by its SHA-256 and
// its claims, about 400 bytes. Verifiers may share one.
type SignatureCache struct{ slots []atomic.Pointer[verified] }

// NewSignatureCache returns a cache for so many tokens, rounded up to a power of two.
func NewSignatureCache(tokens int) *SignatureCache {
	size := ways
	for size < tokens {
		size *= 2
	}
	return &SignatureCache{slots: make([]atomic.Pointer[verified], size)}
}

// ways is how many slots a token may lie in. With one alone, two busy tokens
// that meet in it would throw each other out again and again.
const ways = 4

// verified is a token whose signature is good.
type verified struct {
	sum    [sha256.Size]byte
	claims Claims
	keys   *KeySet // that it was verified with
	// The token is accepted in [from, until), Unix seconds: nbf and exp, leeway
	// included, and the life of its key.
	from, until int64
	seen        atomic.Int64 // when its use was last reported, Unix seconds
}

func (t *verified) at(now time.Time) bool { return t.from <= now.Unix() && now.Unix() < t.until }

func digest(token string) [sha256.Size]byte {
	var buf [1024]byte // a token fits, and is not copied to the heap
	return sha256.Sum256(append(buf[:0], token...))
}

// set returns the slots that a token may lie in.
func (c *SignatureCache) set(sum [sha256.Size]byte) []atomic.Pointer[verified] {
	i := int(binary.LittleEndian.Uint32(sum[:])) & (len(c.slots) - 1) &^ (ways - 1)
	return c.slots[i : i+ways]
}

// find returns the token if it was verified with these very keys, is meant for v
// and its time is now. Nil: it has to be verified.
func (c *SignatureCache) find(sum [sha256.Size]byte, v *Verifier, keys *KeySet, now time.Time) *verified {
	set := c.set(sum)
	for i := range set {
		if t := set[i].Load(); t != nil && t.sum == sum && t.keys == keys && t.at(now) &&
			t.claims.Issuer == v.Issuer && t.claims.Audience == v.Audience {
			return t
		}
	}
	return nil
}

// add remembers a token in a free slot, or in place of one that is of no use
// any more, or of any.
func (c *SignatureCache) add(sum [sha256.Size]byte, t *verified, now time.Time) {
	t.sum = sum
	set := c.set(sum)
	victim := int(sum[8]) % ways // as good as random
	for i := range set {
		if held := set[i].Load(); held == nil || held.keys != t.keys || held.until <= now.Unix() || held.sum == sum {
			victim = i
			break
		}
	}
	set[victim].Store(t)
}
