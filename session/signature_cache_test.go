package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

// openStore is a store that reports every session as active, so that only the signature and the
// claims decide whether a token is accepted.
type openStore struct{ Store }

func (openStore) Look(context.Context, Ref) (Lookup, error) {
	return Lookup{HasEntry: true, HasGeneration: true, Entry: Entry{ExpiresAt: issuedAt.Add(1000 * time.Hour)}}, nil
}

// cachedVerifier is a verifier with a signature cache. The test sets the time of its clock.
type cachedVerifier struct {
	Verifier
	at time.Time
}

func newCachedVerifier(set *KeySet, tokens int) *cachedVerifier {
	v := &cachedVerifier{at: issuedAt}
	v.Verifier = Verifier{
		Keys: NewKeyring(set), Issuer: "https://id.example", Audience: "https://api.example", Store: openStore{},
		Now: func() time.Time { return v.at }, Signatures: NewSignatureCache(tokens),
	}
	return v
}

func (v *cachedVerifier) want(t *testing.T, token, why string, ok bool) {
	t.Helper()
	// Check the token twice, because the second result may come from the cache.
	for range 2 {
		if _, err := v.Verify(t.Context(), token); (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

// A cached token must be checked again if the time, the keys or the accepted claims have changed.
func TestSignatureCache_ChecksTimesKeysAndClaimsAgain(t *testing.T) {
	set := mustKeys(t, AlgEdDSA)
	c := testClaims()
	token := mustSign(t, set, c)

	v := newCachedVerifier(set, 100)
	v.want(t, token, "fresh", true)
	v.at = c.ExpiresAt.Add(Leeway - time.Second)
	v.want(t, token, "in the leeway", true)
	v.at = c.ExpiresAt.Add(Leeway)
	v.want(t, token, "expired", false)

	v = newCachedVerifier(set, 100)
	v.want(t, token, "fresh", true)
	for _, change := range []func(*Verifier){
		func(v *Verifier) { v.Audience = "https://other.example" },
		func(v *Verifier) { v.Issuer = "https://other.example" },
	} {
		other := &cachedVerifier{Verifier: v.Verifier, at: issuedAt}
		change(&other.Verifier)
		other.want(t, token, "a verifier that shares the cache and accepts another issuer or audience", false)
	}
	v.Keys.Replace(mustKeys(t, AlgEdDSA))
	v.want(t, token, "key removed", false)
	v.Keys.Replace(set)
	v.want(t, token, "key added again", true)

	long := testClaims()
	long.ExpiresAt = issuedAt.Add(MaxAccessTTL)
	longest := mustSign(t, set, long)
	retired := set.Keys()[0]
	retired.Status, retired.RetiredAt = KeyRetired, issuedAt.Add(-time.Minute)
	old, err := NewKeySet(retired)
	if err != nil {
		t.Fatal(err)
	}
	v = newCachedVerifier(old, 100)
	v.want(t, longest, "key retired", true)
	v.at = retired.RetiredAt.Add(MaxAccessTTL + Leeway)
	v.want(t, longest, "key retired for too long", false)

	v = newCachedVerifier(set, 100)
	v.want(t, token, "fresh", true)
	for i := range len(token) {
		forged := []byte(token)
		forged[i] ^= 1
		if _, err := v.Verify(t.Context(), string(forged)); err == nil {
			t.Errorf("the cache accepted a token whose byte %d was changed", i)
		}
	}
	v.want(t, token, "still fresh", true)
}

func TestSignatureCache_ReturnsSameClaimsAsFirstCheck(t *testing.T) {
	set := mustKeys(t, AlgES256)
	v := newCachedVerifier(set, 100)
	token := mustSign(t, set, testClaims())
	first, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	second, err := v.Verify(t.Context(), token)
	if err != nil || fmt.Sprint(first) != fmt.Sprint(second) {
		t.Errorf("the first check returned %v, the second %v (error %v); want equal claims", first, second, err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = v.Verify(t.Context(), token) }); n > 0 {
		t.Errorf("a check of a cached token makes %v allocations, want none", n)
	}
}

// A flood of distinct tokens evicts older tokens and does not need more memory.
func TestSignatureCache_DoesNotGrowBeyondItsSlots(t *testing.T) {
	const slots = 1024
	set := mustKeys(t, AlgHS256)
	v := newCachedVerifier(set, slots)
	flood := func(n int) uint64 {
		for range n {
			c := testClaims()
			c.TokenID = rand.Text()
			v.want(t, mustSign(t, set, c), "one of many", true)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	full := flood(8 * slots)
	if grown := int64(flood(8*slots)) - int64(full); grown > slots*100 {
		t.Errorf("the second flood of tokens took %d more bytes", grown)
	}
	taken := 0
	for i := range v.Signatures.slots {
		if v.Signatures.slots[i].Load() != nil {
			taken++
		}
	}
	if taken < slots*9/10 || len(v.Signatures.slots) != slots {
		t.Errorf("the flood filled %d of %d slots", taken, len(v.Signatures.slots))
	}
}

func TestSignatureCache_NeverMixesUpConcurrentTokens(t *testing.T) {
	set := mustKeys(t, AlgHS256)
	v := newCachedVerifier(set, 8) // few slots, so that the tokens compete for them
	tokens := make(map[string]string)
	for range 64 {
		c := testClaims()
		c.TokenID = rand.Text()
		tokens[mustSign(t, set, c)] = c.TokenID
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				for token, id := range tokens {
					if c, err := v.Verify(t.Context(), token); err != nil || c.TokenID != id {
						t.Errorf("a check of token %s returned the claims of token %s (error %v)", id, c.TokenID, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// Seen is not called in the first minute after a login, because the login itself records a use.
func TestVerify_ReportsUseOfTokenOncePerMinute(t *testing.T) {
	set := mustKeys(t, AlgEdDSA)
	v := newCachedVerifier(set, 100)
	c := testClaims()
	want, reported, taken := c.ref(), 0, true
	v.Seen = func(ref Ref, now time.Time) bool {
		if ref != want || !now.Equal(v.at) {
			t.Errorf("Seen was called with %v at %v, want %v at %v", ref, now, want, v.at)
		}
		if taken {
			reported++
		}
		return taken
	}
	token := mustSign(t, set, c)
	for _, step := range []struct {
		after    time.Duration
		taken    bool
		reported int
	}{
		{0, true, 0},
		{60 * time.Second, true, 0},
		{61 * time.Second, true, 1},
		{62 * time.Second, true, 1},
		{121 * time.Second, true, 1},
		{122 * time.Second, false, 1},
		{123 * time.Second, true, 2},
		{124 * time.Second, true, 2},
	} {
		v.at, taken = issuedAt.Add(step.after), step.taken
		v.want(t, token, "used", true)
		if reported != step.reported {
			t.Errorf("%v after the login Seen has accepted %d uses, want %d", step.after, reported, step.reported)
		}
	}
}
