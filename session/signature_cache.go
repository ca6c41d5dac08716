package session

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"
)

// SignatureCache remembers tokens whose signature was verified, because verifying a signature takes
// longer than all other steps of a check. It does not remember whether a token was revoked, because
// every check asks the store.
//
// The cache holds a fixed number of tokens, and newer tokens replace older tokens. So a flood of
// distinct tokens cannot make it grow. A token takes about 400 bytes for its SHA-256 and claims.
// Several Verifiers may share a cache.
type SignatureCache struct{ slots []atomic.Pointer[verified] }

// ways is how many slots of the cache can hold a given token. Its SHA-256 selects the slots. If each
// token had only one slot, two tokens with the same slot would evict each other at every use.
const ways = 4

// NewSignatureCache returns a cache for a number of tokens, which is rounded up to a power of two.
func NewSignatureCache(tokens int) *SignatureCache {
	size := ways
	for size < tokens {
		size *= 2
	}
	return &SignatureCache{slots: make([]atomic.Pointer[verified], size)}
}

// verified is a token whose signature was verified.
type verified struct {
	sum    [sha256.Size]byte
	claims Claims
	keys   *KeySet // the key set that verified the signature
	// The token is accepted in [from, until), in Unix seconds. The range goes from nbf to exp, plus
	// the leeway at both ends, and stops when the key that signed the token stops verifying.
	from, until int64
	seen        atomic.Int64 // when a use of the token was last reported, in Unix seconds
}

func (t *verified) at(now time.Time) bool { return t.from <= now.Unix() && now.Unix() < t.until }

func digest(token string) [sha256.Size]byte {
	var buf [1024]byte // a buffer on the stack, large enough for tokens of sessiond
	return sha256.Sum256(append(buf[:0], token...))
}

// set returns the slots that can hold the token with this SHA-256.
func (c *SignatureCache) set(sum [sha256.Size]byte) []atomic.Pointer[verified] {
	i := int(binary.LittleEndian.Uint32(sum[:])) & (len(c.slots) - 1) &^ (ways - 1)
	return c.slots[i : i+ways]
}

// find returns the cached token with this SHA-256. It returns nil if another key set verified the
// token, if v does not accept the token's issuer and audience, or if the token is not valid at the
// time now. The caller then verifies the signature again.
func (c *SignatureCache) find(sum [sha256.Size]byte, v *Verifier, keys *KeySet, now time.Time) *verified {
	set := c.set(sum)
	for i := range set {
		if t := set[i].Load(); t != nil && t.sum == sum && t.keys == keys && t.at(now) &&
			t.claims.Issuer == v.Issuer && slices.Contains(t.claims.Audience, v.Audience) {
			return t
		}
	}
	return nil
}

// add stores a token in one of the slots that can hold it. It prefers a free slot, or a slot whose
// token find would not return any more. Otherwise it chooses a random slot.
func (c *SignatureCache) add(sum [sha256.Size]byte, t *verified, now time.Time) {
	t.sum = sum
	set := c.set(sum)
	victim := int(sum[8]) % ways // random, because it is a byte of a SHA-256
	for i := range set {
		if held := set[i].Load(); held == nil || held.keys != t.keys || held.until <= now.Unix() || held.sum == sum {
			victim = i
			break
		}
	}
	set[victim].Store(t)
}
