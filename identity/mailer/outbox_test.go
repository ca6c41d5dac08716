package mailer

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// A mail server that is down loses nothing and doubles nothing.
func TestMailOutlivesItsServer(t *testing.T) {
	store := sqlstoretest.New(t).Users()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hasher, err := identity.NewInsecureHasher(4, nil)
	if err != nil {
		t.Fatal(err)
	}
	users := &identity.Service{
		Store: store, Hasher: hasher, Now: func() time.Time { return now }, MailEnabled: true,
		NewID: func() string { return "0123456789012345678901" }, Log: slog.New(slog.DiscardHandler),
	}
	if _, err := users.Register(t.Context(), identity.NewUser{Username: "alice", Email: "alice@example.org", Password: "correct horse"}); err != nil {
		t.Fatal(err)
	}
	if err := users.RequestReset(t.Context(), "alice@example.org"); err != nil {
		t.Fatal(err)
	}

	server := startServer(t, "", true, false)
	postman := &identity.Postman{
		Store: store, Mailer: client(t, "smtp", server, testPassword), Now: users.Now,
		PublicURL: "https://auth.example.com", Log: users.Log,
	}
	deliver := func(want int) {
		t.Helper()
		if n, err := postman.Deliver(t.Context()); n != want || err != nil {
			t.Fatalf("sent %d, %v; want %d", n, err, want)
		}
		now = now.Add(time.Minute)
	}
	server.stop()
	deliver(0)
	deliver(0)

	back := startServer(t, server.addr, true, false)
	postman.Mailer.(*SMTP).tls.RootCAs = back.cert.RootCAs
	deliver(1)
	deliver(0)
	got := back.deliveries()
	if len(got) != 1 || len(got[0].to) != 1 || got[0].to[0] != "alice@example.org" || !got[0].tls {
		t.Fatalf("delivered %+v", got)
	}
	_, text, html := parts(t, got[0].data)
	_, rest, found := strings.Cut(text, "https://auth.example.com/reset?resetPasswordToken=")
	if !found || len(rest) < 43 || !strings.Contains(html, rest[:43]) {
		t.Fatalf("text %s\nHTML %s", text, html)
	}
	if _, err := users.CompleteReset(t.Context(), "alice", rest[:43], "battery staple", identity.Origin{}); err != nil {
		t.Error(err)
	}
}
