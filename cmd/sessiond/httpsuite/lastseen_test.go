package httpsuite

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/sqlstore"
)

// runWith is serveWith with what the service does in the background, until stop.
func runWith(t *testing.T, s app.Settings, db *sqlstore.DB, store *redisstore.Store, c *clock) (running *service, stop func()) {
	t.Helper()
	a := assembleWith(t, s, db, store, c)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, listener, nil, 0, slog.New(slog.DiscardHandler)) }()
	stop = sync.OnceFunc(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Errorf("the service ended with: %v", err)
		}
	})
	t.Cleanup(stop)
	base := "http://" + listener.Addr().String()
	return &service{base: base, replicas: []string{base}, logs: &lockedBuffer{}}, stop
}

type seenSession struct {
	ID         string    `json:"id"`
	LastSeenAt time.Time `json:"last_seen_at"`
}

// lastSeen reads when the session with this id was last seen, from the list.
func (s *service) lastSeen(t *testing.T, token, id string) time.Time {
	t.Helper()
	var page struct{ Items []seenSession }
	s.call(t, "GET", "/v1/sessions", bearerOf(token)).want(t, 200).into(t, &page)
	for _, item := range page.Items {
		if item.ID == id {
			return item.LastSeenAt
		}
	}
	t.Fatalf("session %s is not in the list", id)
	return time.Time{}
}

// Mere use moves last_seen_at: once a minute at most, a few seconds later, and
// when the service stops.
func TestUseIsSeen(t *testing.T) {
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
					t.Fatal("a live token is refused")
				}
			}
		}
		use(59 * time.Second) // of this nothing is to be seen
		use(61 * time.Second)

		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		var seen seenSession
		for deadline := time.Now().Add(20 * time.Second); !seen.LastSeenAt.Equal(start.Add(61*time.Second)) && time.Now().Before(deadline); <-tick.C {
			s.call(t, "GET", "/v1/sessions/current", bearerOf(p.token)).want(t, 200).into(t, &seen)
			if !seen.LastSeenAt.Equal(start) && !seen.LastSeenAt.Equal(start.Add(61*time.Second)) {
				t.Fatalf("seen %v after the login", seen.LastSeenAt.Sub(start))
			}
		}
		if got := s.lastSeen(t, p.token, id); !got.Equal(start.Add(61 * time.Second)) {
			t.Fatalf("used 61 s after the login, and seen %v after it", got.Sub(start))
		}

		use(120 * time.Second) // 59 s after the one that was written
		use(125 * time.Second)
		stop()
		s, _ = runWith(t, limits, db, store, c)
		if got := s.lastSeen(t, s.login(t, p), id); !got.Equal(start.Add(125 * time.Second)) {
			t.Errorf("used 125 s after the login, the service stopped, and it was seen %v after it", got.Sub(start))
		}
	})
}
