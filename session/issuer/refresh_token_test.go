package issuer

import (
	"encoding/base64"
	"testing"
	"time"
)

// Each bit that is not the time is set in about half of the texts.
func TestTokensAndIDs_HaveRandomBits_ASVS_V7_2_3_V11_5_1(t *testing.T) {
	const n = 2000
	for name, c := range map[string]struct {
		make     func() string
		encoding *base64.Encoding
		bytes    int // number of bytes at the end that are random
	}{
		"refresh token":    {func() string { return newRefreshToken().String() }, base64.RawURLEncoding, familyBytes + secretBytes},
		"its successor":    {func() string { return refreshToken{}.successor().String() }, base64.RawURLEncoding, secretBytes},
		"id":               {NewID, base64.RawURLEncoding, 16},
		"id with the time": {func() string { return NewTimedID(time.Now()) }, sortable, 16},
	} {
		set := make([]int, 8*c.bytes)
		seen := make(map[string]bool)
		for range n {
			text := c.make()
			data, err := c.encoding.DecodeString(text)
			if err != nil || len(data) < c.bytes || seen[text] {
				t.Fatalf("%s: got %q, %v", name, text, err)
			}
			seen[text] = true
			for i := range set {
				set[i] += int(data[len(data)-c.bytes+i/8]>>(i%8)) & 1
			}
		}
		for i, got := range set {
			if got < n*2/5 || got > n*3/5 { // 9 standard deviations
				t.Errorf("%s: bit %d is set in %d of %d", name, i, got, n)
			}
		}
	}
}

func TestRefreshToken_OnlyReplacedTokenDecryptsItsReplacement(t *testing.T) {
	parent := newRefreshToken()
	next := parent.successor()
	if next.family() != parent.family() || next.hash() == parent.hash() {
		t.Error("the successor is not a different token of the same family")
	}
	read, ok := parseRefreshToken(next.String())
	if !ok || read != next {
		t.Error("a parsed token differs from the original")
	}
	sealed, err := parent.seal(next)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := parent.open(sealed); err != nil || opened != next {
		t.Errorf("the parent cannot decrypt the successor that it sealed: %v", err)
	}
	// The secret that all refresh tokens of a session share must not be enough to decrypt one of them.
	if _, err := next.open(sealed); err == nil {
		t.Error("another token of the family decrypted the successor")
	}
	for _, text := range []string{"", "x", next.String() + "=", next.String()[1:], next.String() + "A"} {
		if _, ok := parseRefreshToken(text); ok {
			t.Errorf("%q was accepted as a refresh token", text)
		}
	}
}
