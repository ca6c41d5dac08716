package httpsuite

import (
	"bufio"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/session/issuer"
)

// The test reads Redis as an operator does with redis-cli. The keys of a session must expire with
// its access token. Every other key must have a TTL. A check of an access token must send one
// pipeline of commands.
func TestRedis_KeysExpireWithTokenAndTokenCheckSendsOnePipeline(t *testing.T) {
	client, url := startRedis(t)
	s := startServe(t, 1, "REDIS_URL="+url, "REDIS_PREFIX=", "LIMITS=on")
	p := s.register(t)
	current := s.call(t, "GET", "/v1/sessions/current", bearer(p.token)).want(t, 200)
	sid := current.text(t, "id")
	claims := claimsOf(t, p.token)
	want := time.Unix(int64(claims["exp"].(float64)), 0).Add(issuer.Margin)
	sub := claims["sub"].(string)

	expires := func(key string) time.Time {
		t.Helper()
		ms, err := client.Do(t.Context(), "PEXPIRETIME", key).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return time.UnixMilli(ms)
	}
	for _, key := range []string{"s:{" + sub + "}:" + sid, "g:{" + sub + "}"} {
		if got := expires(key); !got.Equal(want) {
			t.Errorf("%s expires at %v, want the expiry of the access token plus a margin: %v", key, got, want)
		}
	}

	s.call(t, "POST", "/oauth/revoke", formBody("token", p.token)).want(t, 200)
	blacklist := "b:{" + sub + "}:" + claims["jti"].(string)
	if got := expires(blacklist); !got.Equal(want) {
		t.Errorf("%s expires at %v, want the expiry of the access token plus a margin: %v", blacklist, got, want)
	}
	if s.alive(t, p.token) {
		t.Error("a token on the blacklist is accepted")
	}
	other, _ := s.refreshed(t, p.refresh, 200)
	if !s.alive(t, other) {
		t.Error("revoking an access token revoked its session")
	}

	for _, token := range s.manyLogins(t, p, 4) {
		s.alive(t, token)
		s.call(t, "DELETE", "/logout", bearer(token)).want(t, 200)
	}
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 0 {
			t.Errorf("%s has no TTL", key)
		}
	}

	commands := s.monitored(t, client, func() {
		for range 20 {
			s.alive(t, other)
		}
	})
	if n := len(commands); n != 20*3 {
		t.Errorf("20 checks sent %d commands to Redis, want 3 for each check:\n%s", n, strings.Join(commands, "\n"))
	}
	for check := range slices.Chunk(commands, 3) {
		if got := strings.Join(check, " "); got != "getex mget info" {
			t.Fatalf("a check sent %s, want one pipeline getex mget info", got)
		}
	}
}

// monitored returns the commands that Redis received while f ran.
func (s *service) monitored(t *testing.T, client *redis.Client, f func()) []string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", client.Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	if !lines.Scan() || lines.Text() != "+OK" {
		t.Fatalf("MONITOR returned %q: %v", lines.Text(), lines.Err())
	}
	f()
	const marker = "end-of-monitoring"
	if err := client.Echo(t.Context(), marker).Err(); err != nil {
		t.Fatal(err)
	}
	var commands []string
	for polled := false; lines.Scan(); {
		if strings.Contains(lines.Text(), marker) {
			return commands
		}
		// The service itself asks which server this is, with GETEX and INFO.
		if skip := polled; skip || strings.Contains(lines.Text(), `g:{}"`) {
			polled = !skip
			continue
		}
		if fields := strings.Split(lines.Text(), `"`); len(fields) > 1 {
			commands = append(commands, strings.ToLower(fields[1]))
		}
	}
	t.Fatalf("MONITOR ended: %v", lines.Err())
	return nil
}
