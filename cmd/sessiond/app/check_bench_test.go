package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/redisstore/embedded"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/sqlstore"
)

// newChecks assembles a service with SQLite and an embedded Redis, and registers a user. The returned
// function sends a gateway check with the user's token and returns the status. The function change may
// change the parts before the stores are opened.
func newChecks(tb testing.TB, change func(*Parts)) (check func() int) {
	tb.Helper()
	dir := tb.TempDir()
	server, err := embedded.Start()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Close)
	var s Settings
	s.addFlags(&cobra.Command{Use: devVerb}, environment())
	s.SigningKeysFile, s.BcryptCost, s.Limits = filepath.Join(dir, "keys.json"), 4, limitsOff
	s.DatabaseURL, s.DatabaseMaxConns, s.RedisURL = "sqlite:"+filepath.Join(dir, "db"), 4, server.URL()
	s.Issuer, s.Audience, s.PublicURL, s.LogLevel = "https://id.example", "https://id.example", "https://id.example", "error"
	ctx, cancel := context.WithCancel(context.Background())
	var c closers
	tb.Cleanup(func() {
		cancel()
		if err := c.close(); err != nil {
			tb.Error(err)
		}
	})
	if err := writeKey(s.SigningKeysFile, session.AlgEdDSA); err != nil {
		tb.Fatal(err)
	}
	p, err := s.openFiles(ctx, true, io.Discard, &c)
	if err != nil {
		tb.Fatal(err)
	}
	change(&p)
	migrate := func(ctx context.Context, db *sqlstore.DB) error {
		return errors.Join(db.Migrate(ctx), db.Sessions().ClearEpochs(ctx))
	}
	if err := s.openStores(ctx, &p, migrate, &c); err != nil {
		tb.Fatal(err)
	}
	handler := Assemble(p).Handler
	send := func(r *http.Request) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	body := `{"username":"ada","email":"ada@example.com","password":"a long passphrase"}`
	register := httptest.NewRequest(http.MethodPost, "/registerUser", strings.NewReader(body))
	register.Header.Set("Content-Type", "application/json")
	registered := send(register)
	token := regexp.MustCompile(`"token":"([^"]+)"`).FindStringSubmatch(registered.Body.String())
	if token == nil {
		tb.Fatalf("registration: status %d: %s", registered.Code, registered.Body)
	}
	return func() int {
		r := httptest.NewRequest(http.MethodGet, "/v1/verify", nil)
		r.Header.Set("Authorization", "Bearer "+token[1])
		return send(r).Code
	}
}

// BenchmarkCheck measures the time and the allocations of a gateway check on one goroutine, without a
// network between client and service.
func BenchmarkCheck(b *testing.B) { benchmarkCheck(b, func(*Parts) {}) }

func benchmarkCheck(b *testing.B, change func(*Parts)) {
	check := newChecks(b, change)
	b.ReportAllocs()
	for b.Loop() {
		if status := check(); status != http.StatusOK {
			b.Fatal(fmt.Errorf("status %d, want 200", status))
		}
	}
}
