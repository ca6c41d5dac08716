package httpsuite

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
)

// A user can revoke a session that has already expired. The response then has logged_out true, but
// token_deleted false, because the session expired before the user revoked it.
func TestDeleteLogin_ReturnsTimeOfExpiryForExpiredSession(t *testing.T) {
	limits := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 2 * time.Hour, SessionMaxTTL: 96 * time.Hour}
	eachStore(t, limits, func(t *testing.T, s *service, c *clock) {
		start := c.Now()
		p := s.register(t)
		id := s.currentID(t, p.token)
		c.set(start.Add(3 * time.Hour))
		token := s.login(t, p)
		a := s.call(t, "GET", "/user/logins/delete/"+id, bearer(token)).want(t, 200)
		var body struct {
			UserLogin struct {
				LoggedOut    bool      `json:"logged_out"`
				LoggedOutAt  time.Time `json:"logged_out_at"`
				TokenDeleted bool      `json:"token_deleted"`
			} `json:"user_login"`
		}
		a.into(t, &body)
		if l := body.UserLogin; !l.LoggedOut || l.TokenDeleted || !l.LoggedOutAt.Equal(start.Add(2*time.Hour)) {
			t.Errorf("got %s for the expired session, want logged_out at its expiry and not token_deleted", a.body)
		}
		var show struct {
			UserLogins []any `json:"user_logins"`
		}
		s.call(t, "GET", "/user/logins/show", bearer(token)).want(t, 200).into(t, &show)
		if len(show.UserLogins) != 1 {
			t.Errorf("got active sessions %v, want one, without the expired session", show.UserLogins)
		}
	})
}

// Some classic (pre-/v1) routes revoke sessions by GET. A browser that follows or prefetches a link
// to such a route sends no Authorization header, and must not revoke sessions.
func TestDeleteLoginByGET_NeedsAuthorizationHeader_ASVS_V3_5_3(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		second := s.login(t, p)
		id := s.currentID(t, second)
		for _, prefix := range []string{"", "/api/v1"} {
			for _, path := range []string{"/user/logins/delete/" + id, "/user/logins/delete/all/not-current", "/user/logins/deletes/all"} {
				path = prefix + path
				a := s.call(t, "HEAD", path, bearer(p.token)).want(t, 405)
				if allow := a.header.Get("Allow"); allow != "GET" {
					t.Errorf("HEAD %s: Allow is %q, want GET", path, allow)
				}
				a = s.call(t, "GET", path, header("Cookie", "token="+p.token+"; Authorization=Bearer "+p.token)).want(t, 401)
				if a.header.Get("Cache-Control") != "no-store" {
					t.Errorf("GET %s: Cache-Control is %q, want no-store", path, a.header.Get("Cache-Control"))
				}
			}
		}
		if !s.alive(t, p.token) || !s.alive(t, second) {
			t.Error("a HEAD request, or a GET request with a cookie, revoked a session")
		}
		a := s.call(t, "GET", "/user/logins/deletes/all", bearer(p.token)).want(t, 200)
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("headers are %v, want Cache-Control: no-store and no Set-Cookie", a.header)
		}
	})
}
