package issuer

import (
	"testing"
	"time"
)

func TestSessionStatus(t *testing.T) {
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
		{"running", base, StatusActive, "", ""},
		{"at its last moment", with(func(s *Session) { s.ExpiresAt = now.Add(time.Nanosecond) }), StatusActive, "", ""},
		{"idle, at the second", with(func(s *Session) { s.ExpiresAt = now }), StatusExpired, ReasonIdle, BySystem},
		{"at its absolute end", with(func(s *Session) { s.ExpiresAt, s.MaxExpiresAt = now, now }), StatusExpired, ReasonMaxLifetime, BySystem},
		{"signed out", with(func(s *Session) { s.EndedAt, s.EndReason, s.EndedBy = now, ReasonLogout, ByUser }), StatusLoggedOut, ReasonLogout, ByUser},
		{"ended from elsewhere", with(func(s *Session) { s.EndedAt, s.EndReason, s.EndedBy = now, ReasonRevoked, ByUser }), StatusRevoked, ReasonRevoked, ByUser},
		// What was ended before it would have expired stays "ended".
		{"ended, and past its expiry", with(func(s *Session) {
			s.EndedAt, s.EndReason, s.EndedBy, s.ExpiresAt = now.Add(-time.Hour), ReasonTokenTheft, BySystem, now
		}), StatusRevoked, ReasonTokenTheft, BySystem},
	} {
		end := c.session.Ending(now)
		if got := c.session.StatusAt(now); got != c.status || end.Reason != c.reason || end.By != c.by {
			t.Errorf("%s: %s %+v, want %s %s %s", c.name, got, end, c.status, c.reason, c.by)
		}
	}
}
