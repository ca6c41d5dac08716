package httpsuite

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
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

// clock is a clock that stands still until a test sets it.
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

// eachStore runs f with a service on embedded stores, and with a service on real Postgres and Redis
// servers. The clock of the service stands still until the test sets it.
func eachStore(t *testing.T, s app.Settings, f func(t *testing.T, s *service, c *clock)) {
	eachDatabase(t, func(t *testing.T, db *sqlstore.DB, store *redisstore.Store) {
		c := newClock()
		f(t, serveWith(t, s, db, store, c), c)
	})
}

// eachDatabase runs f once with embedded stores and once with real Postgres and Redis servers. The
// test runs in parallel with others.
func eachDatabase(t *testing.T, f func(t *testing.T, db *sqlstore.DB, store *redisstore.Store)) {
	t.Helper()
	t.Parallel()
	t.Run("on embedded stores", func(t *testing.T) { f(t, sqlstoretest.New(t), redisstoretest.New(t)) })
	t.Run("on real Postgres and Redis", func(t *testing.T) { f(t, sqlstoretest.NewPostgres(t), redisstoretest.NewReal(t)) })
}

func newClock() *clock { return &clock{now: time.Now().UTC().Truncate(time.Second)} }

// serveWith serves the HTTP routes on these stores. It does not start the background tasks of the
// service.
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

// runWith starts a service on these stores, with its background tasks. The test may stop the
// service early by calling stop.
func runWith(t *testing.T, s app.Settings, db *sqlstore.DB, store *redisstore.Store, c *clock) (running *service, stop func()) {
	t.Helper()
	a := assembleWith(t, s, db, store, c)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, app.Listeners{Public: listener}, 0, slog.New(slog.DiscardHandler)) }()
	stop = sync.OnceFunc(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Errorf("the service stopped with error: %v", err)
		}
	})
	t.Cleanup(stop)
	base := "http://" + listener.Addr().String()
	return &service{base: base, replicas: []string{base}, logs: &lockedBuffer{}}, stop
}
