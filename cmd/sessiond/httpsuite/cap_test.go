package httpsuite

import "testing"

// A login beyond MAX_SESSIONS is refused, or takes the place of the oldest.
func TestSessionCap(t *testing.T) {
	t.Run("refuse", func(t *testing.T) {
		s := startDev(t, t.TempDir(), "MAX_SESSIONS=2", "MAX_SESSIONS_POLICY=refuse")
		p := s.register(t)
		second := s.login(t, p)
		credentials := jsonBody(map[string]string{"username": p.username, "password": password})
		if a := s.call(t, "POST", "/loginUser", credentials).want(t, 403); a.text(t, "code") != "too_many_sessions" {
			t.Errorf("body %s", a.body)
		}
		s.call(t, "POST", "/v1/sessions", jsonBody(map[string]string{"login": p.username, "password": password})).want(t, 409)
		s.call(t, "DELETE", "/logout", bearerOf(second)).want(t, 200)
		s.login(t, p)
		if !s.alive(t, p.token) {
			t.Error("a refused login hurt another session")
		}
	})
	t.Run("end-oldest", func(t *testing.T) {
		s := startDev(t, t.TempDir(), "MAX_SESSIONS=2")
		p := s.register(t)
		id := s.call(t, "GET", "/v1/sessions/current", bearerOf(p.token)).want(t, 200).text(t, "id")
		second, third := s.login(t, p), s.login(t, p)
		if s.alive(t, p.token) || !s.alive(t, second) || !s.alive(t, third) {
			t.Error("it is not the oldest that gave way")
		}
		if h := s.history(t, third, id); h.Status != "revoked" || h.EndReason != "session_limit" || h.EndedBy != "system" {
			t.Errorf("history says %+v", h)
		}
	})
}
