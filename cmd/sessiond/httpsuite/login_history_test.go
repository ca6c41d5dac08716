package httpsuite

import (
	"slices"
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
)

// A refresh updates last_seen_at, expires_at and token_id of the session. It never extends the
// session beyond its maximum lifetime of 96 hours.
func TestRefresh_UpdatesTimesAndTokenIDOfSession_ASVS_V10_4_8(t *testing.T) {
	limits := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour, RefreshGrace: 30 * time.Second}
	eachStore(t, limits, func(t *testing.T, s *service, c *clock) {
		start := c.Now()
		p := s.register(t)
		type tracked struct {
			CreatedAt  time.Time `json:"created_at"`
			LastSeenAt time.Time `json:"last_seen_at"`
			ExpiresAt  time.Time `json:"expires_at"`
		}
		read := func(token string) (seen tracked) {
			t.Helper()
			s.call(t, "GET", "/v1/sessions/current", bearer(token)).want(t, 200).into(t, &seen)
			return seen
		}
		if got, want := read(p.token), (tracked{start, start, start.Add(48 * time.Hour)}); got != want {
			t.Errorf("a new session has %v, want %v", got, want)
		}
		later := start.Add(50 * time.Minute)
		c.set(later)
		token, refresh := s.refreshed(t, p.refresh, 200)
		if got, want := read(token), (tracked{start, later, later.Add(48 * time.Hour)}); got != want {
			t.Errorf("a refreshed session has %v, want %v", got, want)
		}
		var show struct {
			UserLogins []struct {
				TokenID    string    `json:"token_id"`
				LoggedInAt time.Time `json:"logged_in_at"`
			} `json:"user_logins"`
		}
		s.call(t, "GET", "/user/logins/show", bearer(p.token)).want(t, 200).into(t, &show)
		if got := show.UserLogins[0]; got.TokenID != claimsOf(t, token)["jti"] || !got.LoggedInAt.Equal(start) {
			t.Errorf("the list shows %+v, want the id of the newest token and the time of the login", got)
		}
		for hours := 40; hours <= 80; hours += 40 {
			c.set(start.Add(time.Duration(hours) * time.Hour))
			token, refresh = s.refreshed(t, refresh, 200)
		}
		if got := read(token); !got.ExpiresAt.Equal(start.Add(96 * time.Hour)) {
			t.Errorf("the session expires at %v, want 96 h after its login", got.ExpiresAt)
		}
	})
}

func TestLoginHistory_ListsLoginsThroughClassicAndV1Routes(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		want := []string{s.currentID(t, p.token)}
		for i := range 3 {
			token := s.login(t, p)
			want = append(want, s.currentID(t, token), s.newSession(t, p.email, password).want(t, 201).text(t, "session.id"))
			if i == 0 {
				s.call(t, "DELETE", "/logout", bearer(token)).want(t, 200)
			}
		}
		slices.Reverse(want)
		var history sessionPage
		s.call(t, "GET", "/v1/logins", bearer(p.token)).want(t, 200).into(t, &history)
		var got []string
		for _, item := range history.Items {
			got = append(got, item.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("the login history lists the sessions\n%v, want\n%v", got, want)
		}
	})
}
