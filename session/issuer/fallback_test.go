package issuer

import (
	"errors"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session"
)

func TestRecord_AcceptsOnlyActiveSessionAndCachesNoExpiredOne(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	live := Session{Generation: 3, ExpiresAt: now.Add(time.Hour), MaxExpiresAt: now.Add(2 * time.Hour), AccessExpiresAt: now.Add(time.Minute)}
	ended := live
	ended.EndedAt, ended.EndReason = now, ReasonRevoked
	expired := live
	expired.ExpiresAt = now
	for _, c := range []struct {
		name   string
		record Record
		want   error
		kept   bool // whether the store may keep a snapshot of the record
		ended  bool // whether the snapshot says that the session has ended
	}{
		{"active", Record{Session: live, SubjectGeneration: 3}, nil, true, false},
		{"ended", Record{Session: ended, SubjectGeneration: 3}, session.ErrRevoked, true, true},
		// A refresh that commits right now may prolong the expired session.
		{"expired", Record{Session: expired, SubjectGeneration: 3}, session.ErrInvalidToken, false, false},
		{"active, token revoked", Record{Session: live, SubjectGeneration: 3, RevokedTokens: []string{"jti"}}, session.ErrRevoked, true, false},
		{"active, generation below the subject's generation", Record{Session: live, SubjectGeneration: 4}, session.ErrRevoked, true, true},
	} {
		if err := c.record.verdict("jti", now); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		snapshot, ok := c.record.snapshot(now)
		if ok != c.kept || ok && (snapshot.SubjectGeneration != c.record.SubjectGeneration || snapshot.Entry.Ended != c.ended) {
			t.Errorf("%s: got snapshot %+v, kept: %t, want kept: %t", c.name, snapshot, ok, c.kept)
		}
	}
}
