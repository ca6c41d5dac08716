package httpsuite

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/sqlstore"
)

type seenSession struct {
	ID         string    `json:"id"`
	LastSeenAt time.Time `json:"last_seen_at"`
}

// lastSeen returns the last_seen_at that the list of sessions shows for the session with this id.
func (s *service) lastSeen(t *testing.T, token, id string) time.Time {
	t.Helper()
	var page struct{ Items []seenSession }
	s.call(t, "GET", "/v1/sessions", bearer(token)).want(t, 200).into(t, &page)
	for _, item := range page.Items {
		if item.ID == id {
			return item.LastSeenAt
		}
	}
	t.Fatalf("session %s is not in the list", id)
	return time.Time{}
}

// A check of an access token updates last_seen_at of its session, but at most once a minute. The
// service writes the new time to the database a few seconds later, or when it stops.
func TestLastSeen_IsUpdatedByChecksAtMostOncePerMinute(t *testing.T) {
	limits := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 2 * time.Hour, SessionMaxTTL: 5 * time.Hour, RefreshGrace: 30 * time.Second}
	eachDatabase(t, func(t *testing.T, db *sqlstore.DB, store *redisstore.Store) {
		c := newClock()
		start := c.Now()
		s, stop := runWith(t, limits, db, store, c)
		p := s.register(t)
		id := s.currentID(t, p.token)
		use := func(after time.Duration) {
			t.Helper()
			c.set(start.Add(after))
			for range 20 {
				if !s.alive(t, p.token) {
					t.Fatal("a valid token is refused")
				}
			}
		}
		use(59 * time.Second) // less than a minute after the login, so last_seen_at stays
		use(61 * time.Second)

		await(t, "last_seen_at is 61 s after the login", func() bool {
			var seen seenSession
			s.call(t, "GET", "/v1/sessions/current", bearer(p.token)).want(t, 200).into(t, &seen)
			written := seen.LastSeenAt.Equal(start.Add(61 * time.Second))
			if !written && !seen.LastSeenAt.Equal(start) {
				t.Fatalf("last_seen_at is %v after the login, want 0 s or 61 s", seen.LastSeenAt.Sub(start))
			}
			return written
		})
		if got := s.lastSeen(t, p.token, id); !got.Equal(start.Add(61 * time.Second)) {
			t.Fatalf("after a check 61 s after the login, last_seen_at is %v after the login", got.Sub(start))
		}

		use(120 * time.Second) // 59 s after the last update, so last_seen_at stays
		use(125 * time.Second)
		stop()
		s, _ = runWith(t, limits, db, store, c)
		if got := s.lastSeen(t, s.login(t, p), id); !got.Equal(start.Add(125 * time.Second)) {
			t.Errorf("after a check 125 s after the login and a stop, last_seen_at is %v after the login", got.Sub(start))
		}
	})
}
