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

// openStore lets every session through, so that what is left is the signature.
type openStore struct{ Store }

func (openStore) Look(context.Context, Ref) (Lookup, error) {
	return Lookup{HasEntry: true, HasGeneration: true, Entry: Entry{ExpiresAt: issuedAt.Add(1000 * time.Hour)}}, nil
}

// held is a verifier with a cache, at a time that the test sets.
type held struct {
	Verifier
	at time.Time
}

func newHeld(set *KeySet, tokens int) *held {
	h := &held{at: issuedAt}
	h.Verifier = Verifier{
		Keys: NewKeyring(set), Issuer: "https://id.example", Audience: "https://api.example", Store: openStore{},
		Now: func() time.Time { return h.at }, Signatures: NewSignatureCache(tokens),
	}
	return h
}

func (h *held) want(t *testing.T, token, why string, ok bool) {
	t.Helper()
	// Twice: the second answer may be the cache's.
	for range 2 {
		if _, err := h.Verify(t.Context(), token); (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

// A remembered signature is looked at again for all that may change about it.
func TestRememberedSignatures(t *testing.T) {
	set := mustKeys(t, AlgEdDSA)
	c := testClaims()
	token := mustSign(t, set, c)

	h := newHeld(set, 100)
	h.want(t, token, "fresh", true)
	h.at = c.ExpiresAt.Add(Leeway - time.Second)
	h.want(t, token, "in the leeway", true)
	h.at = c.ExpiresAt.Add(Leeway)
	h.want(t, token, "expired", false)

	h = newHeld(set, 100)
	h.want(t, token, "fresh", true)
	for _, change := range []func(*Verifier){
		func(v *Verifier) { v.Audience = "https://other.example" },
		func(v *Verifier) { v.Issuer = "https://other.example" },
	} {
		other := &held{Verifier: h.Verifier, at: issuedAt}
		change(&other.Verifier)
		other.want(t, token, "held by a cache that is shared with another service", false)
	}
	h.Keys.Replace(mustKeys(t, AlgEdDSA))
	h.want(t, token, "its key is gone", false)
	h.Keys.Replace(set)
	h.want(t, token, "its key is back", true)

	retired := set.Keys()[0]
	retired.Status, retired.RetiredAt = KeyRetired, issuedAt.Add(-MaxAccessTTL)
	old, err := NewKeySet(retired)
	if err != nil {
		t.Fatal(err)
	}
	h = newHeld(old, 100)
	h.want(t, token, "its key is retired", true)
	h.at = issuedAt.Add(Leeway)
	h.want(t, token, "its key has been retired for long enough", false)

	h = newHeld(set, 100)
	h.want(t, token, "fresh", true)
	for i := range len(token) {
		forged := []byte(token)
		forged[i] ^= 1
		if _, err := h.Verify(t.Context(), string(forged)); err == nil {
			t.Errorf("accepted with byte %d changed", i)
		}
	}
	h.want(t, token, "still", true)
}

// What is remembered answers as what was just verified.
func TestRememberedClaims(t *testing.T) {
	set := mustKeys(t, AlgES256)
	h := newHeld(set, 100)
	token := mustSign(t, set, testClaims())
	first, err := h.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.Verify(t.Context(), token)
	if err != nil || fmt.Sprint(first) != fmt.Sprint(second) {
		t.Errorf("%v, then %v, %v", first, second, err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = h.Verify(t.Context(), token) }); n > 0 {
		t.Errorf("a remembered token costs %v allocations", n)
	}
}

// A flood of distinct tokens throws older ones out and takes no more memory.
func TestSignatureFlood(t *testing.T) {
	const slots = 1024
	set := mustKeys(t, AlgHS256)
	h := newHeld(set, slots)
	flood := func(n int) uint64 {
		for range n {
			c := testClaims()
			c.TokenID = rand.Text()
			h.want(t, mustSign(t, set, c), "one of many", true)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	full := flood(8 * slots)
	if grown := int64(flood(8*slots)) - int64(full); grown > slots*100 {
		t.Errorf("the second flood took %d bytes more", grown)
	}
	taken := 0
	for i := range h.Signatures.slots {
		if h.Signatures.slots[i].Load() != nil {
			taken++
		}
	}
	if taken < slots*9/10 || len(h.Signatures.slots) != slots {
		t.Errorf("%d of %d slots are taken", taken, len(h.Signatures.slots))
	}
}

func TestSignaturesInParallel(t *testing.T) {
	set := mustKeys(t, AlgHS256)
	h := newHeld(set, 8) // few, so that they fight for them
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
					if c, err := h.Verify(t.Context(), token); err != nil || c.TokenID != id {
						t.Errorf("token %s is taken for %s, %v", id, c.TokenID, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// A use is reported once a minute for each token, and again when it could not
// be taken; the login itself is a use.
func TestSeen(t *testing.T) {
	set := mustKeys(t, AlgEdDSA)
	h := newHeld(set, 100)
	c := testClaims()
	want, seen, take := c.ref(), 0, true
	h.Seen = func(ref Ref, now time.Time) bool {
		if ref != want || !now.Equal(h.at) {
			t.Errorf("reported %v at %v", ref, now)
		}
		if take {
			seen++
		}
		return take
	}
	token := mustSign(t, set, c)
	for _, step := range []struct {
		after time.Duration
		take  bool
		seen  int
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
		h.at, take = issuedAt.Add(step.after), step.take
		h.want(t, token, "used", true)
		if seen != step.seen {
			t.Errorf("%v after the login %d uses are noted, want %d", step.after, seen, step.seen)
		}
	}
}
