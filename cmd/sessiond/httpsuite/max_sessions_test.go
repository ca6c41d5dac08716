package httpsuite

import (
	"fmt"
	"strings"
	"testing"
)

func TestMaxSessions_PolicyAppliesToLoginAboveLimit_ASVS_V2_3_2_V7_1_2(t *testing.T) {
	t.Run("policy refuse returns 403 for the login", func(t *testing.T) {
		s := startDev(t, t.TempDir(), "MAX_SESSIONS=2", "MAX_SESSIONS_POLICY=refuse")
		p := s.register(t)
		second := s.login(t, p)
		credentials := credentials(p.username, password)
		if a := s.call(t, "POST", "/loginUser", credentials).want(t, 403); a.text(t, "code") != "too_many_sessions" {
			t.Errorf("got %s, want code too_many_sessions", a.body)
		}
		s.newSession(t, p.username, password).want(t, 409)
		s.call(t, "DELETE", "/logout", bearer(second)).want(t, 200)
		s.login(t, p)
		if !s.alive(t, p.token) {
			t.Error("a login that MAX_SESSIONS refused has revoked another session")
		}
	})
	t.Run("policy end-oldest revokes the oldest session", func(t *testing.T) {
		s := startDev(t, t.TempDir(), "MAX_SESSIONS=2")
		p := s.register(t)
		id := s.call(t, "GET", "/v1/sessions/current", bearer(p.token)).want(t, 200).text(t, "id")
		second, third := s.login(t, p), s.login(t, p)
		if s.alive(t, p.token) || !s.alive(t, second) || !s.alive(t, third) {
			t.Error("a third login must revoke the oldest session and no other")
		}
		if h := s.history(t, third, id); h.Status != "revoked" || h.EndReason != "session_limit" || h.EndedBy != "system" {
			t.Errorf("the login history shows %+v, want revoked by the system because of session_limit", h)
		}
	})
}

func TestMaxSessions_Is100ByDefault_ASVS_V7_1_2(t *testing.T) {
	s := startDev(t, t.TempDir())
	p := s.register(t)
	last := p.token
	for range 100 {
		last = s.login(t, p)
	}
	if s.alive(t, p.token) || !s.alive(t, last) {
		t.Error("the login after 100 sessions must revoke the oldest session and no other")
	}
}

func TestClassicLists_HaveAtMost1000Logins(t *testing.T) {
	s := startDev(t, t.TempDir(), "MAX_SESSIONS=0")
	p := s.register(t)
	for range 1005 {
		s.login(t, p)
	}
	newest := s.login(t, p)
	for _, path := range []string{"/user/logins/show", "/user/logins/delete/all/not-current"} {
		a := s.call(t, "GET", path, bearer(newest)).want(t, 200)
		if n := strings.Count(string(a.body), `"token_id"`); n != 1000 {
			t.Errorf("GET %s lists %d logins, want 1000", path, n)
		}
	}
	a := s.call(t, "GET", "/user/logins/show", bearer(newest)).want(t, 200)
	if strings.Count(string(a.body), `"token_id"`) != 1 || !strings.Contains(string(a.body), fmt.Sprintf(`"id":%q`, s.currentID(t, newest))) {
		t.Errorf("after all others were revoked, the list is %s", a.body)
	}
}
