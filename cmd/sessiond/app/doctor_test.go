package app

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// What serve refuses, and what a user would stumble over, the doctor names.
func TestDoctor(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.json")
	if err := writeKey(keys, "EdDSA"); err != nil {
		t.Fatal(err)
	}
	mail := "SMTP_URL=smtp+plain://" + startSMTP(t)
	const (
		well    = "ok   configuration  complete and safe\n"
		noPage  = "WARN mail           SESSIOND_RESET_URL is not set"
		noMail  = "WARN mail           SESSIOND_SMTP_URL is not set: no mail is sent; POST /forgotPassword, /v1/password-resets and /v1/users answer 503"
		refused = "MEND configuration  SESSIOND_"
	)
	for _, c := range []struct {
		name    string
		setting []string // NAME=value
		want    string
		not     string
	}{
		{"nothing to say", nil, well, "MEND configuration"},
		{"a clients file that is not there", []string{"CLIENTS_FILE=" + dir + "/none"}, refused + "CLIENTS_FILE", well},
		{"a clients file that is none", []string{"CLIENTS_FILE=" + keys}, refused + "CLIENTS_FILE", well},
		{"peppers that are not there", []string{"PASSWORD_PEPPER_FILE=" + dir + "/none"}, refused + "PASSWORD_PEPPER_FILE", well},
		{"a cheap hash", []string{"BCRYPT_COST=9"}, refused + "BCRYPT_COST", well},
		{"a log level of one's own", []string{"LOG_LEVEL=loud"}, refused + "LOG_LEVEL", well},
		{"a password with a bare slash", []string{"REDIS_URL=rediss://:abc,s3cret/ghi@127.0.0.1:1"}, "MEND Redis          SESSIOND_REDIS_URL: the URL is malformed", well},
		{"no mail", nil, noMail, noPage},
		{"reset links to no page", []string{mail, "MAIL_FROM=id@example.com"}, noPage, noMail},
		{"reset links to a page", []string{mail, "MAIL_FROM=id@example.com", "RESET_URL=https://www.example/reset"}, "ok   mail ", noPage},
	} {
		env := environment(append([]string{
			"DATABASE_URL=postgres://u:s3cret@127.0.0.1:1/x?sslmode=disable", "REDIS_URL=redis://:s3cret@127.0.0.1:1",
			"SIGNING_KEYS_FILE=" + keys, "ISSUER=https://id.example", "PUBLIC_URL=https://id.example",
		}, c.setting...)...)
		var out strings.Builder
		err := Run(t.Context(), []string{"doctor"}, env, &out, io.Discard)
		if err == nil { // neither store answers
			t.Errorf("%s: nothing to mend", c.name)
		}
		if !strings.Contains(out.String(), c.want) || strings.Contains(out.String(), c.not) || strings.Contains(out.String(), "s3cret") {
			t.Errorf("%s: want %q and not %q, got\n%s", c.name, c.want, c.not, out.String())
		}
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
		_ = l.Close() // if Serve has not registered it yet
		<-done
	})
	return l.Addr().String()
}

// silentSession is an SMTP session in which no mail is sent.
type silentSession struct{ smtp.Session }

func (silentSession) Reset()        {}
func (silentSession) Logout() error { return nil }
