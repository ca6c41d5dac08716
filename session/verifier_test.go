package session

import (
	"testing"
	"time"
)

func TestLookup_Verdict(t *testing.T) {
	now := issuedAt
	live := Entry{Generation: 3, ExpiresAt: now.Add(time.Hour)}
	for _, c := range []struct {
		name   string
		lookup Lookup
		want   verdict
	}{
		{"nothing is known", Lookup{}, unknown},
		{"entry and generation agree", Lookup{HasEntry: true, HasGeneration: true, Generation: 3, Entry: live}, active},
		// End-others moves the kept session on before the reader's generation is renewed.
		{"entry is ahead of the generation", Lookup{HasEntry: true, HasGeneration: true, Generation: 2, Entry: live}, active},
		{"all sessions of this generation were ended", Lookup{HasEntry: true, HasGeneration: true, Generation: 4, Entry: live}, revoked},
		// An evicted generation must not revive what it had ended.
		{"generation was lost", Lookup{HasEntry: true, Entry: live}, unknown},
		{"entry was lost", Lookup{HasGeneration: true, Generation: 3}, unknown},
		{"session ended", Lookup{HasEntry: true, Entry: Entry{Ended: true}}, revoked},
		{"token on the blacklist", Lookup{HasEntry: true, HasGeneration: true, Generation: 3, Entry: live, TokenRevoked: true}, revoked},
		{"token on the blacklist, all else lost", Lookup{TokenRevoked: true}, revoked},
		// The blacklist entry may be evicted before the session's.
		{"token listed in the entry", Lookup{
			HasEntry: true, HasGeneration: true, Generation: 3,
			Entry: Entry{Generation: 3, ExpiresAt: now.Add(time.Hour), RevokedTokens: []string{"other", "jti"}},
		}, revoked},
		{"another token listed in the entry", Lookup{
			HasEntry: true, HasGeneration: true, Generation: 3,
			Entry: Entry{Generation: 3, ExpiresAt: now.Add(time.Hour), RevokedTokens: []string{"other"}},
		}, active},
		// A refresh prolongs the session without telling the store.
		{"session has expired as far as the store knows", Lookup{
			HasEntry: true, HasGeneration: true, Generation: 3, Entry: Entry{Generation: 3, ExpiresAt: now},
		}, unknown},
	} {
		if got := c.lookup.verdict("jti", now); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}
