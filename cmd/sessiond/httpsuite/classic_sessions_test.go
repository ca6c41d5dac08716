package httpsuite

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
)

// TestDeleteLogin_ShowsExpiry: revoking an expired session succeeds, and the login then has
// logged_out, but not token_deleted, because it expired before it was revoked.
func TestDeleteLogin_ShowsExpiry(t *testing.T) {
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
			t.Errorf("the expired login is %s", a.body)
		}
		var show struct {
			UserLogins []any `json:"user_logins"`
		}
		s.call(t, "GET", "/user/logins/show", bearer(token)).want(t, 200).into(t, &show)
		if len(show.UserLogins) != 1 {
			t.Errorf("got active logins %v, want one without the expired login", show.UserLogins)
		}
	})
}

// TestDeleteLoginByGET_NeedsAuthorizationHeader: a browser that follows a link, or prefetches it,
// must not revoke sessions, because some classic routes revoke by GET.
func TestDeleteLoginByGET_NeedsAuthorizationHeader(t *testing.T) {
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
			t.Error("HEAD or a cookie revoked a session")
		}
		a := s.call(t, "GET", "/user/logins/deletes/all", bearer(p.token)).want(t, 200)
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("headers are %v, want Cache-Control: no-store and no Set-Cookie", a.header)
		}
	})
}
