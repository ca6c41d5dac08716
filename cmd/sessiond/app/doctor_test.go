package app

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
)

// TestDoctor_ReportsUnsafeOrIncompleteSettings_ASVS_V13_2_3_V13_3_2 checks that `sessiond doctor` fails for every
// configuration that serve refuses, and warns of settings whose absence users would notice.
func TestDoctor_ReportsUnsafeOrIncompleteSettings_ASVS_V13_2_3_V13_3_2(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.json")
	if err := writeKey(keys, "EdDSA"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	readable := filepath.Join(dir, "readable.json")
	if err := errors.Join(os.WriteFile(readable, data, 0o600), os.Chmod(readable, 0o644)); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "redis-url")
	if err := errors.Join(os.WriteFile(secret, []byte("redis://:s3cret@127.0.0.1:1"), 0o600), os.Chmod(secret, 0o604)); err != nil {
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
		{"fails for a malformed clients file", "CLIENTS_FILE=" + keys, refused + "CLIENTS_FILE: line 1: want CLIENT-ID:SHA256-HEX or CLIENT-ID:SHA256-HEX:SCOPES with a unique id", complete},
		{"fails for a missing pepper file", "PASSWORD_PEPPER_FILE=" + dir + "/none", refused + "PASSWORD_PEPPER_FILE", complete},
		{"fails for a bcrypt cost below 10", "BCRYPT_COST=9", refused + "BCRYPT_COST", complete},
		{"fails for an unknown log level", "LOG_LEVEL=loud", refused + "LOG_LEVEL", complete},
		{"fails for an unescaped slash in a password", "REDIS_URL=rediss://:abc,s3cret/ghi@127.0.0.1:1", "FAIL Redis          SESSIOND_REDIS_URL: the URL is malformed", complete},
		{"warns of a key file that others can read", "SIGNING_KEYS_FILE=" + readable, "WARN files          SESSIOND_SIGNING_KEYS_FILE: every user of this machine can read the file (mode 0644)", "FAIL configuration"},
		{"warns of a secret's file that others can read", "REDIS_URL= REDIS_URL_FILE=" + secret, "WARN files          SESSIOND_REDIS_URL_FILE: every user of this machine can read the file (mode 0604)", "FAIL configuration"},
		{"does not warn of a file of the owner only", "", complete, "WARN files"},
		{"warns of a Redis without a password on another machine", "REDIS_URL=redis://10.255.255.1:1", "WARN Redis          SESSIOND_REDIS_URL has no password", "FAIL configuration"},
		{"does not warn of a Redis without a password on this machine", "REDIS_URL=redis://localhost:1", complete, "has no password"},
		{"warns of profiles that other machines can read", "PPROF=true METRICS_ADDR=:9090", "WARN profiles       SESSIOND_PPROF is on", "FAIL configuration"},
		{"accepts profiles on loopback", "PPROF=true METRICS_ADDR=127.0.0.1:9090", complete, "WARN profiles"},
		{"warns of classic routes without step-up", "CLASSIC_ROUTES=on", "WARN classic routes SESSIOND_CLASSIC_ROUTES is on", "FAIL configuration"},
		{"fails for reset links without encryption", "RESET_URL=http://www.example/reset", refused + "RESET_URL: want https://", complete},
		{"fails for proxies that are everybody", "TRUSTED_PROXIES=10.0.0.0/8,0.0.0.0/0", refused + "TRUSTED_PROXIES: 0.0.0.0/0", complete},
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

// TestDoctor_ChecksSentinels asks real Sentinels, first of a setup that is unsafe, then of a safe one.
func TestDoctor_ChecksSentinels(t *testing.T) {
	master := redisstoretest.StartServer(t, "--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
	doctor := func(redisURL string) (lines string) {
		t.Helper()
		var out strings.Builder
		if err := Run(t.Context(), []string{"doctor"}, environment("REDIS_URL="+redisURL), &out, io.Discard); err == nil {
			t.Error("got no error, although most settings are missing")
		}
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line[5:], "Sentinel ") {
				lines += line
			}
		}
		return lines
	}
	want := func(got string, lines ...string) {
		t.Helper()
		if strings.Count(got, "\n") != len(lines) {
			t.Errorf("want %d lines about Sentinels, got\n%s", len(lines), got)
		}
		for _, line := range lines {
			if !strings.Contains(got, line) {
				t.Errorf("want %q, got\n%s", line, got)
			}
		}
	}
	want(doctor(master))

	one := redisstoretest.StartSentinel(t, master, "down-after-milliseconds 3000")
	want(doctor(one),
		"the master has too few Sentinels for a failover after the loss of one: 1; want at least 3",
		"down-after-milliseconds is 3000; want more than 4000 (min-replicas-max-lag + 2 s)")
	addr, _, _ := strings.Cut(strings.TrimPrefix(one, "redis+sentinel://"), "?")
	silent := strings.Replace(one, "?", ",127.0.0.1:1?", 1)
	if got := doctor(silent); !strings.Contains(got, "WARN Sentinel       127.0.0.1:1: ") {
		t.Errorf("want a warning about the Sentinel that does not answer, got\n%s", got)
	}

	for range 2 {
		redisstoretest.StartSentinel(t, master)
	}
	client := redis.NewSentinelClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = client.Close() })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); client.Master(t.Context(), "main").Val()["num-other-sentinels"] != "2"; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the Sentinels do not know each other within a minute")
		}
	}
	want(doctor(one), "the quorum is 1 of 3 Sentinels; want a majority: 2", "down-after-milliseconds is 3000")
	for name, value := range map[string]string{"quorum": "2", "down-after-milliseconds": "4500"} {
		if err := client.Set(t.Context(), "main", name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	want(doctor(one), "ok   Sentinel       "+addr+": 3 Sentinels, quorum 2, down-after-milliseconds 4500\n")
	if err := client.Set(t.Context(), "main", "quorum", "4").Err(); err != nil {
		t.Fatal(err)
	}
	want(doctor(one), "the quorum is 4 of 3 Sentinels; want a majority: 2", "no failover is possible now: NOQUORUM")
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
