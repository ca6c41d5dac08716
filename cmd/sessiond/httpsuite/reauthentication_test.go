package httpsuite

import (
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
)

// Sensitive /v1 routes need a password check within the last 10 minutes. Otherwise they return the
// challenge of RFC 9470. The classic (pre-/v1) routes accept a password check of any age.
func TestReauthentication_IsRequiredBySensitiveRoutesAfter10Minutes(t *testing.T) {
	limits := app.Settings{
		AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour,
		RefreshGrace: 30 * time.Second, ReauthMaxAge: 10 * time.Minute,
	}
	eachStore(t, limits, func(t *testing.T, s *service, c *clock) {
		start := c.Now()
		p := s.register(t)
		other := s.login(t, p)
		id := s.currentID(t, p.token)
		type request struct {
			method, path string
			body         any
			status       int
		}
		sensitive := []request{
			{"PATCH", "/v1/users/me", shape{"email": "new-" + p.email}, 200},
			{"PUT", "/v1/users/me/password", shape{"current_password": password, "new_password": password}, 204},
			{"DELETE", "/v1/sessions", nil, 200},
			{"DELETE", "/v1/users/me", nil, 204},
		}
		send := func(token string, r request) response {
			opts := []option{bearer(token)}
			if r.body != nil {
				opts = append(opts, jsonBody(r.body))
			}
			return s.call(t, r.method, r.path, opts...)
		}
		wantChallenge := func(token string) {
			t.Helper()
			for _, r := range sensitive {
				a := send(token, r)
				a.problem(t, false, 401, "insufficient_user_authentication")
				challenge := a.header.Get("WWW-Authenticate")
				if !strings.Contains(challenge, `error="insufficient_user_authentication"`) || !strings.Contains(challenge, `max_age="600"`) {
					t.Errorf("%s %s: challenge %q", r.method, r.path, challenge)
				}
			}
		}

		c.set(start.Add(10*time.Minute - time.Second))
		send(p.token, sensitive[0]).want(t, 200)
		c.set(start.Add(10 * time.Minute))
		wantChallenge(p.token)
		refreshedToken, _ := s.refreshed(t, p.refresh, 200)
		wantChallenge(refreshedToken)
		// An invalid token must get 401 invalid_token, and not the challenge for a new password
		// check.
		s.call(t, "DELETE", "/v1/sessions", bearer("x"+p.token)).problem(t, false, 401, "invalid_token")
		if !s.alive(t, p.token) || !s.alive(t, other) {
			t.Error("a refused request revoked a session")
		}

		// Requests that are not sensitive must succeed without a recent password check.
		s.call(t, "PATCH", "/v1/users/me", bearer(p.token), jsonBody(shape{"first_name": "Ada"})).want(t, 200)
		s.call(t, "DELETE", "/v1/sessions?except=current", bearer(p.token)).is(t, 200, shape{"revoked": 1})

		reauthenticate := func(body any) response {
			return s.call(t, "POST", "/v1/sessions/current/reauthenticate", bearer(p.token), jsonBody(body))
		}
		reauthenticate(shape{"password": "wrong passphrase"}).problem(t, false, 403, "invalid_credentials")
		reauthenticate(shape{}).problem(t, false, 400, "invalid_request", "password")
		a := reauthenticate(shape{"password": password}).
			is(t, 200, shape{"access_token": aJWT, "token_type": "Bearer", "expires_in": 3600, "session": sessionShape(id, true)})
		fresh := a.text(t, "access_token")
		claims := claimsOf(t, fresh)
		if claims["sid"] != id || int64(claims["auth_time"].(float64)) != c.Now().Unix() {
			t.Errorf("reauthentication returned sid %v and auth_time %v", claims["sid"], claims["auth_time"])
		}
		if !s.alive(t, p.token) {
			t.Error("reauthentication revoked the previous token")
		}
		wantChallenge(p.token)
		for _, r := range sensitive[:3] {
			send(fresh, r).want(t, r.status)
		}
		again := s.login(t, p)
		send(again, sensitive[3]).want(t, 204)

		// The classic (pre-/v1) routes accept a password check of any age.
		q := s.register(t)
		c.set(c.Now().Add(50 * time.Minute))
		s.call(t, "PUT", "/updateUser", bearer(q.token), jsonBody(shape{"username": q.username, "email": "new-" + q.email})).want(t, 200)
		s.call(t, "PUT", "/updatePassword", bearer(q.token), credentials(q.username, goodPassword)).want(t, 200)
		s.call(t, "GET", "/user/logins/delete/all/not-current", bearer(q.token)).want(t, 200)
		s.call(t, "DELETE", "/deleteUser?username="+q.username, bearer(q.token)).want(t, 200)
		r := s.register(t)
		c.set(c.Now().Add(50 * time.Minute))
		s.call(t, "GET", "/user/logins/deletes/all", bearer(r.token)).want(t, 200)
	})
}
