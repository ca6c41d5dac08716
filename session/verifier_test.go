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
		{"the verdict is unknown if the store knows nothing", Lookup{}, unknown},
		{"the verdict is active if entry and generation agree", Lookup{HasEntry: true, HasGeneration: true, Generation: 3, Entry: live}, active},
		// A user can revoke all sessions but one. This raises the generation of the user and of the kept
		// session's entry. A check at the same time may read the new entry and the old generation.
		{"the verdict is active if the entry's generation is above the user's", Lookup{HasEntry: true, HasGeneration: true, Generation: 2, Entry: live}, active},
		{"the verdict is revoked if the entry's generation is below the user's", Lookup{HasEntry: true, HasGeneration: true, Generation: 4, Entry: live}, revoked},
		// If the subject's generation is lost, the sessions that it revoked must not become active
		// again.
		{"the verdict is unknown if the store lost the user's generation", Lookup{HasEntry: true, Entry: live}, unknown},
		{"the verdict is unknown if the store lost the session's entry", Lookup{HasGeneration: true, Generation: 3}, unknown},
		{"the verdict is revoked if the session ended", Lookup{HasEntry: true, Entry: Entry{Ended: true}}, revoked},
		{"the verdict is revoked if the token was revoked", Lookup{HasEntry: true, HasGeneration: true, Generation: 3, Entry: live, TokenRevoked: true}, revoked},
		{"the verdict is revoked if the store has lost all but the record of the revoked token", Lookup{TokenRevoked: true}, revoked},
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
