package session

import (
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// SignatureCache remembers tokens with a verified signature, because verifying it takes longer than
// the rest of a check. It does not remember whether a token was revoked: every check asks the
// store.
//
// It holds a fixed number of tokens, and newer ones replace older ones, so that a flood of distinct
// tokens cannot make it grow. A token takes about 400 bytes: its SHA-256 and its claims. Verifiers
// may share a cache.
type SignatureCache struct{ slots []atomic.Pointer[verified] }

// ways is how many slots a token can use. With one, two busy tokens of the same slot would evict
// each other all the time.
const ways = 4

// NewSignatureCache returns a cache for this many tokens, rounded up to a power of two.
func NewSignatureCache(tokens int) *SignatureCache {
	size := ways
	for size < tokens {
		size *= 2
	}
	return &SignatureCache{slots: make([]atomic.Pointer[verified], size)}
}

// verified is a token with a verified signature.
type verified struct {
	sum    [sha256.Size]byte
	claims Claims
	keys   *KeySet // the set that verified it
	// The token is accepted in [from, until), in Unix seconds. These are nbf and exp with the
	// leeway, and not beyond the end of its key.
	from, until int64
	seen        atomic.Int64 // when its use was last reported, in Unix seconds
}

func (t *verified) at(now time.Time) bool { return t.from <= now.Unix() && now.Unix() < t.until }

func digest(token string) [sha256.Size]byte {
	var buf [1024]byte // on the stack; a token fits
	return sha256.Sum256(append(buf[:0], token...))
}

// set returns the slots that a token can use.
func (c *SignatureCache) set(sum [sha256.Size]byte) []atomic.Pointer[verified] {
	i := int(binary.LittleEndian.Uint32(sum[:])) & (len(c.slots) - 1) &^ (ways - 1)
	return c.slots[i : i+ways]
}

// find returns a token that these very keys verified, that v accepts and that is valid now. It
// returns nil if there is none, and the token has to be verified.
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

// add stores a token in a slot that is free or useless by now, or else in a random one of its
// slots.
func (c *SignatureCache) add(sum [sha256.Size]byte, t *verified, now time.Time) {
	t.sum = sum
	set := c.set(sum)
	victim := int(sum[8]) % ways // a hash byte is as good as random
	for i := range set {
		if held := set[i].Load(); held == nil || held.keys != t.keys || held.until <= now.Unix() || held.sum == sum {
			victim = i
			break
		}
	}
	set[victim].Store(t)
}
