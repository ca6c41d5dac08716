package issuer

import "testing"

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
