package identity

import (
	"regexp"
	"testing"
)

func TestNewToken_IsRandomAndURLSafe(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		token := newToken()
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(token) || seen[token] {
			t.Fatalf("token %q", token)
		}
		seen[token] = true
	}
}
