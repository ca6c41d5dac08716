package httpsuite

import (
	"log/slog"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// eachStore runs f on the embedded stores and on the real ones, with a clock
// that stands still until it is moved.
func eachStore(t *testing.T, s app.Settings, f func(t *testing.T, s *service, c *clock)) {
	eachDatabase(t, func(t *testing.T, db *sqlstore.DB, store *redisstore.Store) {
		c := newClock()
		f(t, serveWith(t, s, db, store, c), c)
	})
}

func eachDatabase(t *testing.T, f func(t *testing.T, db *sqlstore.DB, store *redisstore.Store)) {
	t.Run("embedded", func(t *testing.T) { f(t, sqlstoretest.New(t), redisstoretest.New(t)) })
	t.Run("real", func(t *testing.T) { f(t, sqlstoretest.NewPostgres(t), redisstoretest.NewReal(t)) })
}

func newClock() *clock { return &clock{now: time.Now().UTC().Truncate(time.Second)} }

// serveWith serves without what the service does in the background.
func serveWith(t *testing.T, s app.Settings, db *sqlstore.DB, store *redisstore.Store, c *clock) *service {
	t.Helper()
	server := httptest.NewServer(assembleWith(t, s, db, store, c).Handler)
	t.Cleanup(server.Close)
	return &service{base: server.URL, replicas: []string{server.URL}, logs: &lockedBuffer{}}
}

func assembleWith(t *testing.T, s app.Settings, db *sqlstore.DB, store *redisstore.Store, c *clock) *app.Service {
	t.Helper()
	key, err := session.GenerateKey(session.AlgEdDSA)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := session.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	hasher, err := hashing.NewInsecureHasher(4, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Issuer, s.Audience, s.PublicURL, s.DatabaseMaxConns, s.PasswordMinLength = "https://id.example", "https://id.example", "https://id.example", 10, 8
	return app.Assemble(app.Parts{Settings: s, DB: db, Store: store, Keys: session.NewKeyring(keys), Hasher: hasher, Now: c.Now, Log: slog.New(slog.DiscardHandler)})
}

// listed tells whether a session is among the active ones.
func (s *service) listed(t *testing.T, token, id string) bool {
	t.Helper()
	var body struct{ Items []struct{ ID string } }
	s.call(t, "GET", "/v1/sessions?limit=100", bearerOf(token)).want(t, 200).into(t, &body)
	return slices.ContainsFunc(body.Items, func(i struct{ ID string }) bool { return i.ID == id })
}

type historyItem struct {
	ID        string     `json:"id"`
	Status    string     `json:"status"`
	EndedAt   *time.Time `json:"ended_at"`
	EndReason string     `json:"end_reason"`
	EndedBy   string     `json:"ended_by"`
}

func (s *service) history(t *testing.T, token, id string) historyItem {
	t.Helper()
	var body struct{ Items []historyItem }
	s.call(t, "GET", "/v1/logins?limit=100", bearerOf(token)).want(t, 200).into(t, &body)
	i := slices.IndexFunc(body.Items, func(i historyItem) bool { return i.ID == id })
	if i < 0 {
		t.Fatalf("session %s is not in the history", id)
	}
	return body.Items[i]
}

func (s *service) refreshed(t *testing.T, refresh string, status int) (token, next string) {
	t.Helper()
	a := s.call(t, "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", refresh)).want(t, status)
	return a.text(t, "access_token"), a.text(t, "refresh_token")
}

// Nothing ends these sessions but time, and it does so at the second: in the
// list, at a check in spite of the token's leeway, at a refresh, and in the
// history.
func TestSessionsExpireAtTheSecond(t *testing.T) {
	s := app.Settings{AccessTokenTTL: 24 * time.Hour, SessionIdleTTL: 2 * time.Hour, SessionMaxTTL: 5 * time.Hour, RefreshGrace: 30 * time.Second}
	eachStore(t, s, func(t *testing.T, s *service, c *clock) {
		start := c.Now()
		idle := s.register(t)
		idleID := s.call(t, "GET", "/v1/sessions/current", bearerOf(idle.token)).want(t, 200).text(t, "id")
		kept := s.call(t, "POST", "/v1/sessions", jsonBody(map[string]string{"login": idle.username, "password": password})).want(t, 201)
		keptID, token, refresh := kept.text(t, "session.id"), kept.text(t, "access_token"), kept.text(t, "refresh_token")
		if !s.alive(t, token) || !s.alive(t, idle.token) {
			t.Fatal("a fresh token is refused")
		}

		c.set(start.Add(time.Hour))
		token, refresh = s.refreshed(t, refresh, 200)

		c.set(start.Add(2*time.Hour - time.Second))
		if !s.alive(t, idle.token) || !s.listed(t, token, idleID) {
			t.Error("a session is gone a second before its idle expiry")
		}
		c.set(start.Add(2 * time.Hour))
		if s.alive(t, idle.token) || s.listed(t, token, idleID) {
			t.Error("a session outlives its idle expiry")
		}
		s.refreshed(t, idle.refresh, 400)
		if h := s.history(t, token, idleID); h.Status != "expired" || h.EndReason != "idle_timeout" || h.EndedBy != "system" || !h.EndedAt.Equal(start.Add(2*time.Hour)) {
			t.Errorf("history says %+v", h)
		}

		for hours := 2; hours < 5; hours++ {
			c.set(start.Add(time.Duration(hours) * time.Hour))
			token, refresh = s.refreshed(t, refresh, 200)
		}
		c.set(start.Add(5*time.Hour - time.Second))
		if !s.alive(t, token) {
			t.Error("a session is gone a second before its absolute expiry")
		}
		c.set(start.Add(5 * time.Hour))
		if s.alive(t, token) {
			t.Error("a session outlives its absolute expiry")
		}
		s.refreshed(t, refresh, 400)
		again := s.login(t, idle)
		if h := s.history(t, again, keptID); h.Status != "expired" || h.EndReason != "max_lifetime" || !h.EndedAt.Equal(start.Add(5*time.Hour)) {
			t.Errorf("history says %+v", h)
		}
	})
}
