package issuer

import (
	"testing"
	"time"
)

func TestSession_StatusAndEndingSayWhyItEnded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	base := Session{ExpiresAt: now.Add(time.Hour), MaxExpiresAt: now.Add(2 * time.Hour)}
	with := func(f func(*Session)) Session { s := base; f(&s); return s }
	for _, c := range []struct {
		name    string
		session Session
		status  Status
		reason  Reason
		by      Actor
	}{
		{"active", base, StatusActive, "", ""},
		{"active just before its expiry", with(func(s *Session) { s.ExpiresAt = now.Add(time.Nanosecond) }), StatusActive, "", ""},
		{"expired at its idle expiry", with(func(s *Session) { s.ExpiresAt = now }), StatusExpired, ReasonIdle, BySystem},
		{"expired at its absolute expiry", with(func(s *Session) { s.ExpiresAt, s.MaxExpiresAt = now, now }), StatusExpired, ReasonMaxLifetime, BySystem},
		{"signed out", with(func(s *Session) { s.EndedAt, s.EndReason, s.EndedBy = now, ReasonLogout, ByUser }), StatusLoggedOut, ReasonLogout, ByUser},
		{"revoked from another session", with(func(s *Session) { s.EndedAt, s.EndReason, s.EndedBy = now, ReasonRevoked, ByUser }), StatusRevoked, ReasonRevoked, ByUser},
		// A session that was revoked before its expiry is still revoked after its expiry.
		{"revoked, and past its expiry", with(func(s *Session) {
			s.EndedAt, s.EndReason, s.EndedBy, s.ExpiresAt = now.Add(-time.Hour), ReasonTokenTheft, BySystem, now
		}), StatusRevoked, ReasonTokenTheft, BySystem},
	} {
		end := c.session.Ending(now)
		if got := c.session.StatusAt(now); got != c.status || end.Reason != c.reason || end.By != c.by {
			t.Errorf("%s: got status %s and ending %+v, want status %s, reason %q, actor %q", c.name, got, end, c.status, c.reason, c.by)
		}
	}
}
