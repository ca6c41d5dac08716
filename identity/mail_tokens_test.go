package identity

import (
	"regexp"
	"testing"
)

func TestNewToken_IsRandomAndURLSafe_ASVS_V6_4_1_V6_5_3_V6_5_4_V11_5_1(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		token := newToken()
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(token) || seen[token] {
			t.Fatalf("token %q", token)
		}
		seen[token] = true
	}
}
