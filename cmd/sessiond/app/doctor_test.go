package app

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// TestDoctor_ReportsUnsafeOrIncompleteSettings checks that `sessiond doctor` fails for every
// configuration that serve refuses, and warns of settings whose absence users would notice.
func TestDoctor_ReportsUnsafeOrIncompleteSettings(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.json")
	if err := writeKey(keys, "EdDSA"); err != nil {
		t.Fatal(err)
	}
	mail := "SMTP_URL=smtp+plain://" + startSMTP(t) + " MAIL_FROM=id@example.com"
	const (
		complete    = "ok   configuration  complete and safe\n"
		refused     = "FAIL configuration  SESSIOND_"
		noResetPage = "WARN mail           SESSIOND_RESET_URL is not set"
		noMail      = "WARN mail           SESSIOND_SMTP_URL is not set: no mail is sent; POST /forgotPassword, /v1/password-resets and /v1/users return 503"
	)
	for _, c := range []struct {
		name     string
		settings string // NAME=value pairs, separated by spaces
		want     string
		not      string
	}{
		{"passes a complete configuration", "", complete, "FAIL configuration"},
		{"fails for a missing clients file", "CLIENTS_FILE=" + dir + "/none", refused + "CLIENTS_FILE", complete},
		{"fails for a malformed clients file", "CLIENTS_FILE=" + keys, refused + "CLIENTS_FILE: line 1: want CLIENT-ID:SHA256-HEX with a unique id", complete},
		{"fails for a missing pepper file", "PASSWORD_PEPPER_FILE=" + dir + "/none", refused + "PASSWORD_PEPPER_FILE", complete},
		{"fails for a bcrypt cost below 10", "BCRYPT_COST=9", refused + "BCRYPT_COST", complete},
		{"fails for an unknown log level", "LOG_LEVEL=loud", refused + "LOG_LEVEL", complete},
		{"fails for an unescaped slash in a password", "REDIS_URL=rediss://:abc,s3cret/ghi@127.0.0.1:1", "FAIL Redis          SESSIOND_REDIS_URL: the URL is malformed", complete},
		{"warns that no mail server is set", "", noMail, noResetPage},
		{"warns that no page for reset links is set", mail, noResetPage, noMail},
		{"does not warn if a page for reset links is set", mail + " RESET_URL=https://www.example/reset", "ok   mail ", noResetPage},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := environment(append([]string{
				"DATABASE_URL=postgres://u:s3cret@127.0.0.1:1/x?sslmode=disable", "REDIS_URL=redis://:s3cret@127.0.0.1:1",
				"SIGNING_KEYS_FILE=" + keys, "ISSUER=https://id.example", "PUBLIC_URL=https://id.example",
			}, strings.Fields(c.settings)...)...)
			var out strings.Builder
			if err := Run(t.Context(), []string{"doctor"}, env, &out, io.Discard); err == nil {
				t.Error("got no error, although neither Postgres nor Redis answers")
			}
			if !strings.Contains(out.String(), c.want) || strings.Contains(out.String(), c.not) || strings.Contains(out.String(), "s3cret") {
				t.Errorf("want %q but neither %q nor the secret, got\n%s", c.want, c.not, out.String())
			}
		})
	}
}

// startSMTP starts a mail server and returns its address.
func startSMTP(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return silentSession{}, nil }))
	server.Domain = "localhost"
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		_ = l.Close() // server.Close does not close the listener if Serve has not registered it yet
		<-done
	})
	return l.Addr().String()
}

// silentSession is the server's side of an SMTP session in which the client sends no mail.
type silentSession struct{ smtp.Session }

func (silentSession) Reset()        {}
func (silentSession) Logout() error { return nil }
