package session

import (
	"testing"
	"time"
)

func TestLookupVerdict_IsActiveOnlyIfStoreHasEntryAndGeneration(t *testing.T) {
	now := issuedAt
	live := Entry{Generation: 3, ExpiresAt: now.Add(time.Hour)}
	for _, c := range []struct {
		name   string
		lookup Lookup
		want   verdict
	}{
		{"unknown if the store knows nothing", Lookup{}, unknown},
		{"active if entry and generation agree", Lookup{HasEntry: true, HasGeneration: true, Generation: 3, Entry: live}, active},
		// RevokeAll raises the generation of the subject and of the kept session. A concurrent
		// check may still have read the subject's old generation.
		{"active if the entry is ahead of the generation", Lookup{HasEntry: true, HasGeneration: true, Generation: 2, Entry: live}, active},
		{"unknown if the entry is below the generation, because the session may be kept", Lookup{HasEntry: true, HasGeneration: true, Generation: 4, Entry: live}, unknown},
		// An evicted generation must not revive the sessions that it revoked.
		{"unknown if the generation was lost", Lookup{HasEntry: true, Entry: live}, unknown},
		{"unknown if the entry was lost", Lookup{HasGeneration: true, Generation: 3}, unknown},
		{"revoked if the session ended", Lookup{HasEntry: true, Entry: Entry{Ended: true}}, revoked},
		{"revoked if the token was revoked", Lookup{HasEntry: true, HasGeneration: true, Generation: 3, Entry: live, TokenRevoked: true}, revoked},
		{"revoked if the store has lost all but the record of the revoked token", Lookup{TokenRevoked: true}, revoked},
		// The store may lose the record of a revoked token before it loses the session's entry.
		{"the verdict is revoked if the entry lists the token", Lookup{
			HasEntry: true, HasGeneration: true, Generation: 3,
			Entry: Entry{Generation: 3, ExpiresAt: now.Add(time.Hour), RevokedTokens: []string{"other", "jti"}},
		}, revoked},
		{"the verdict is active if the entry lists another token", Lookup{
			HasEntry: true, HasGeneration: true, Generation: 3,
			Entry: Entry{Generation: 3, ExpiresAt: now.Add(time.Hour), RevokedTokens: []string{"other"}},
		}, active},
		// The session may live longer, because a refresh prolongs it without a change of the entry.
		{"the verdict is unknown after the expiry time in the session's entry", Lookup{
			HasEntry: true, HasGeneration: true, Generation: 3, Entry: Entry{Generation: 3, ExpiresAt: now},
		}, unknown},
	} {
		if got := c.lookup.verdict("jti", now); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}
