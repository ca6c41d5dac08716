package issuer

import "testing"

func TestRefreshTokens(t *testing.T) {
	parent := newRefreshToken()
	next := parent.successor()
	if next.family() != parent.family() || next.hash() == parent.hash() {
		t.Error("a successor is of its parent's family, and another token")
	}
	read, ok := parseRefreshToken(next.String())
	if !ok || read != next {
		t.Error("a token does not survive being written and read")
	}
	sealed, err := parent.seal(next)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := parent.open(sealed); err != nil || opened != next {
		t.Errorf("the parent does not open what it sealed: %v", err)
	}
	// Who has the family's secret but not the parent must not get at the successor.
	if _, err := next.open(sealed); err == nil {
		t.Error("another token of the family opens it")
	}
	for _, text := range []string{"", "x", next.String() + "=", next.String()[1:], next.String() + "A"} {
		if _, ok := parseRefreshToken(text); ok {
			t.Errorf("%q was taken for a refresh token", text)
		}
	}
}
