package app

import (
	"strings"
	"testing"
)

// TestCheckEncrypted_RefusesMalformedHost checks that a URL with an unescaped password is refused
// if a part of the password looks like a host. The error must not contain the password.
func TestCheckEncrypted_RefusesMalformedHost(t *testing.T) {
	for _, c := range []struct {
		s     Settings
		check func(*Settings) error
	}{
		{Settings{RedisURL: "redis+cluster://127.0.0.1,s3cret!"}, func(s *Settings) error { return s.checkRedisURL(t.Context()) }},
		{Settings{RedisURL: "rediss+cluster://127.0.0.1,s3cret!"}, func(s *Settings) error { return s.checkRedisURL(t.Context()) }},
		{Settings{RedisURL: "redis://:s3cret/ghi@127.0.0.1"}, func(s *Settings) error { return s.checkRedisURL(t.Context()) }},
		{Settings{DatabaseURL: "postgres://u@127.0.0.1/x?host=s3cret!"}, func(s *Settings) error { return s.checkDatabaseURL(t.Context()) }},
		{Settings{DatabaseURL: "postgres://u@127.0.0.1/x?host=s3cret!&sslmode=disable", AllowPlaintext: true}, func(s *Settings) error { return s.checkDatabaseURL(t.Context()) }},
		{Settings{DatabaseURL: "postgres://u:s3cret/ghi@127.0.0.1/x"}, func(s *Settings) error { return s.checkDatabaseURL(t.Context()) }},
	} {
		err := c.check(&c.s)
		if err == nil || !strings.Contains(err.Error(), "percent-encoded") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: got %v, want a malformed URL", c.s, err)
		}
	}
}

func TestWebHosts_ReturnsHostOrErrorWithoutPassword(t *testing.T) {
	hosts, encrypted, err := webHosts("https://api.pwnedpasswords.com/range/")
	if err != nil || len(hosts) != 1 || hosts[0] != "api.pwnedpasswords.com" || !encrypted {
		t.Errorf("got %q, %v, %v", hosts, encrypted, err)
	}
	for _, url := range []string{"http://u:s3cret@127.0.0.1/", "http://u:s3cret/ghi@127.0.0.1/", "https://s3%63ret"} {
		if hosts, _, err := webHosts(url); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %q, %v, want an error that does not quote the password", url, hosts, err)
		}
	}
}
