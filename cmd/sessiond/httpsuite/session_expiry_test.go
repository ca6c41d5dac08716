package httpsuite

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
)

// When a session reaches its idle or its absolute expiry, the list of sessions no longer shows it,
// its refresh token and its access token are refused, and the login history shows the expiry. The
// access token is refused at once, although an expired access token is otherwise accepted for 30 s
// more.
func TestSession_IsRefusedAtItsExpiryWithoutLeeway_ASVS_V7_3_1_V7_3_2_V10_4_8(t *testing.T) {
	s := app.Settings{AccessTokenTTL: 24 * time.Hour, SessionIdleTTL: 2 * time.Hour, SessionMaxTTL: 5 * time.Hour, RefreshGrace: 30 * time.Second}
	eachStore(t, s, func(t *testing.T, s *service, c *clock) {
		start := c.Now()
		idle := s.register(t)
		idleID := s.call(t, "GET", "/v1/sessions/current", bearer(idle.token)).want(t, 200).text(t, "id")
		kept := s.newSession(t, idle.username, password).want(t, 201)
		keptID, token, refresh := kept.text(t, "session.id"), kept.text(t, "access_token"), kept.text(t, "refresh_token")
		if !s.alive(t, token) || !s.alive(t, idle.token) {
			t.Fatal("a new token is refused")
		}

		c.set(start.Add(time.Hour))
		token, refresh = s.refreshed(t, refresh, 200)

		c.set(start.Add(2*time.Hour - time.Second))
		if !s.alive(t, idle.token) || !s.listed(t, token, idleID) {
			t.Error("the session is refused or not listed one second before its idle expiry")
		}
		c.set(start.Add(2 * time.Hour))
		if s.alive(t, idle.token) || s.listed(t, token, idleID) {
			t.Error("the session is accepted or listed at its idle expiry")
		}
		s.refreshed(t, idle.refresh, 400)
		if h := s.history(t, token, idleID); h.Status != "expired" || h.EndReason != "idle_timeout" || h.EndedBy != "system" || !h.EndedAt.Equal(start.Add(2*time.Hour)) {
			t.Errorf("the login history shows %+v, want expired at the time of the expiry", h)
		}

		for hours := 2; hours < 5; hours++ {
			c.set(start.Add(time.Duration(hours) * time.Hour))
			token, refresh = s.refreshed(t, refresh, 200)
		}
		c.set(start.Add(5*time.Hour - time.Second))
		if !s.alive(t, token) {
			t.Error("the session is refused one second before its absolute expiry")
		}
		c.set(start.Add(5 * time.Hour))
		if s.alive(t, token) {
			t.Error("the session is accepted at its absolute expiry")
		}
		s.refreshed(t, refresh, 400)
		again := s.login(t, idle)
		if h := s.history(t, again, keptID); h.Status != "expired" || h.EndReason != "max_lifetime" || !h.EndedAt.Equal(start.Add(5*time.Hour)) {
			t.Errorf("the login history shows %+v, want expired at the time of the expiry", h)
		}
	})
}
