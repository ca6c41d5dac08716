package httpsuite

import (
	"bufio"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// startRedis starts a Redis of the test's own, which may be wiped and watched
// without harm to other tests.
func startRedis(t *testing.T) (client *redis.Client, url string) {
	t.Helper()
	url = redisstoretest.StartServer(t)
	client = redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(url, "redis://")})
	t.Cleanup(func() { _ = client.Close() })
	return client, url
}

// manyLogins signs a person in n times, on all replicas in turn.
func (s *service) manyLogins(t *testing.T, p person, n int) []string {
	t.Helper()
	tokens := make([]string, n)
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			for i := worker; i < n; i += 2 {
				base := s.replicas[i%len(s.replicas)]
				a := callAt(t, base, "POST", "/loginUser", jsonBody(map[string]string{"username": p.username, "password": password}))
				if a.status != 200 {
					t.Errorf("login %d: status %d: %s", i, a.status, a.body)
					return
				}
				tokens[i] = a.text(t, "token")
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return tokens
}

// A session ended through one replica is refused by the others on the very next
// request, a thousand times of a thousand.
func TestEndedOnOneReplicaIsRefusedByAll(t *testing.T) {
	rounds := 1000
	if testing.Short() {
		rounds = 50
	}
	s := startServe(t, 3)
	p := s.register(t)
	tokens := s.manyLogins(t, p, rounds)
	refused := 0
	for i, token := range tokens {
		for _, base := range s.replicas {
			if !aliveAt(t, base, token) {
				t.Fatalf("round %d: a live session is refused", i)
			}
		}
		id := callAt(t, s.replicas[i%3], "GET", "/v1/sessions/current", bearerOf(token)).want(t, 200).text(t, "id")
		callAt(t, s.replicas[i%3], "GET", "/user/logins/delete/"+id, bearerOf(p.token)).want(t, 200)
		if aliveAt(t, s.replicas[(i+1)%3], token) || aliveAt(t, s.replicas[(i+2)%3], token) {
			t.Fatalf("round %d: an ended session is accepted", i)
		}
		refused++
	}
	if !aliveAt(t, s.replicas[2], p.token) {
		t.Error("the session that ended the others was ended too")
	}
	t.Logf("%d of %d ended sessions refused by both other replicas on the next request", refused, rounds)
}

// What operators see with redis-cli: entries that expire with the token, the
// blacklist too, and nothing that stays for ever.
func TestRedisSeenFromOutside(t *testing.T) {
	client, url := startRedis(t)
	s := startServe(t, 1, "REDIS_URL="+url, "REDIS_PREFIX=", "LIMITS=on")
	p := s.register(t)
	current := s.call(t, "GET", "/v1/sessions/current", bearerOf(p.token)).want(t, 200)
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
			t.Errorf("%s expires at %v, want exp plus the margin: %v", key, got, want)
		}
	}

	s.call(t, "POST", "/oauth/revoke", formBody("token", p.token)).want(t, 200)
	blacklist := "b:{" + sub + "}:" + claims["jti"].(string)
	if got := expires(blacklist); !got.Equal(want) {
		t.Errorf("%s expires at %v, want exp plus the margin: %v", blacklist, got, want)
	}
	if s.alive(t, p.token) {
		t.Error("a token on the blacklist is accepted")
	}
	other, _ := s.refreshed(t, p.refresh, 200)
	if !s.alive(t, other) {
		t.Error("revoking a token ended its session")
	}

	for _, token := range s.manyLogins(t, p, 4) {
		s.alive(t, token)
		s.call(t, "DELETE", "/logout", bearerOf(token)).want(t, 200)
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
	// The route asks Redis for nothing else: all of this is the check.
	if n := len(commands); n != 20*3 {
		t.Errorf("20 checks sent %d commands, want three each:\n%s", n, strings.Join(commands, "\n"))
	}
	for check := range slices.Chunk(commands, 3) {
		if got := strings.Join(check, " "); got != "getex mget info" {
			t.Fatalf("a check is not one pipeline: %s", got)
		}
	}
}

// monitored returns the commands that Redis saw while f ran.
func (s *service) monitored(t *testing.T, client *redis.Client, f func()) []string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", client.Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	if !lines.Scan() || lines.Text() != "+OK" {
		t.Fatalf("MONITOR answered %q: %v", lines.Text(), lines.Err())
	}
	f()
	const marker = "end-of-monitoring"
	if err := client.Echo(t.Context(), marker).Err(); err != nil {
		t.Fatal(err)
	}
	var commands []string
	for lines.Scan() {
		if strings.Contains(lines.Text(), marker) {
			return commands
		}
		if fields := strings.Split(lines.Text(), `"`); len(fields) > 1 {
			commands = append(commands, strings.ToLower(fields[1]))
		}
	}
	t.Fatalf("MONITOR ended: %v", lines.Err())
	return nil
}

// Wiping Redis signs nobody out and revives nothing.
func TestWipedRedis(t *testing.T) {
	client, url := startRedis(t)
	s := startServe(t, 3, "REDIS_URL="+url)
	var live, dead []string
	for range 3 {
		p := s.register(t)
		tokens := s.manyLogins(t, p, 8)
		for _, token := range append(slices.Clone(tokens), p.token) {
			s.alive(t, token)
		}
		s.call(t, "DELETE", "/logout", bearerOf(tokens[0])).want(t, 200)
		s.call(t, "POST", "/oauth/revoke", formBody("token", tokens[1])).want(t, 200)
		id := s.call(t, "GET", "/v1/sessions/current", bearerOf(tokens[2])).want(t, 200).text(t, "id")
		s.call(t, "DELETE", "/v1/sessions/"+id, bearerOf(p.token)).want(t, 204)
		dead, live = append(dead, tokens[:3]...), append(live, append(tokens[3:], p.token)...)
	}
	// One who ended all others, and one who ended all.
	p := s.register(t)
	others := s.manyLogins(t, p, 3)
	s.call(t, "DELETE", "/v1/sessions?except=current", bearerOf(p.token)).want(t, 200)
	dead, live = append(dead, others...), append(live, p.token)
	q := s.register(t)
	s.call(t, "GET", "/user/logins/deletes/all", bearerOf(q.token)).want(t, 200)
	dead = append(dead, q.token)

	for round := range 3 {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		for i, token := range live {
			if !aliveAt(t, s.replicas[(i+round)%3], token) {
				t.Errorf("round %d: live session %d was signed out", round, i)
			}
		}
		for i, token := range dead {
			// Twice: the first check asks Postgres, the second what that put back.
			if aliveAt(t, s.replicas[(i+round)%3], token) || aliveAt(t, s.replicas[(i+round+1)%3], token) {
				t.Errorf("round %d: ended session %d is back", round, i)
			}
		}
	}
	t.Logf("%d live and %d ended sessions, 3 times FLUSHALL", len(live), len(dead))
}

// With Redis away people sign in and are checked, and a revocation that was
// answered 503 comes into force when Redis is back.
func TestRedisAway(t *testing.T) {
	_, url := startRedis(t)
	proxy := startProxy(t, strings.TrimPrefix(url, "redis://"))
	s := startServe(t, 1, "REDIS_URL=redis://"+proxy.addr)
	p := s.register(t)
	old := s.login(t, p)
	if !s.alive(t, old) {
		t.Fatal("a fresh token is refused")
	}
	proxy.cut()
	token := s.login(t, p)
	if !s.alive(t, token) || !s.alive(t, old) {
		t.Error("with Redis away a live session is refused")
	}
	a := s.call(t, "DELETE", "/logout", bearerOf(old)).want(t, 503)
	if a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	if s.alive(t, old) {
		t.Error("Postgres knows of the revocation, and the check did not ask it")
	}
	proxy.mend()
	// Redis still holds the session as active: within 5 s it must have learnt.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); s.alive(t, old); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("a recorded revocation is not in force 5 s after Redis is back")
		}
	}
	if !s.alive(t, token) {
		t.Error("another session was signed out")
	}
}

// With both stores away nothing is decided: no check says 200 or 401, and
// nobody is signed out by it.
func TestBothStoresAway(t *testing.T) {
	_, redisURL := startRedis(t)
	redisProxy := startProxy(t, strings.TrimPrefix(redisURL, "redis://"))
	database, err := url.Parse(sqlstoretest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	databaseProxy := startProxy(t, database.Host)
	database.Host = databaseProxy.addr
	s := startServe(t, 1, "REDIS_URL=redis://"+redisProxy.addr, "DATABASE_URL="+database.String())
	p := s.register(t)
	dead := s.login(t, p)
	s.call(t, "DELETE", "/logout", bearerOf(dead)).want(t, 200)

	redisProxy.cut()
	databaseProxy.cut()
	for name, a := range map[string]answer{
		"a live token": s.call(t, "GET", "/v1/users/me", bearerOf(p.token)),
		"an ended one": s.call(t, "GET", "/v1/users/me", bearerOf(dead)),
		"a gateway":    s.call(t, "GET", "/v1/verify", bearerOf(p.token)),
		"and again":    s.call(t, "PROPFIND", "/v1/verify/x", bearerOf(dead)),
		"ending all":   s.call(t, "GET", "/user/logins/deletes/all", bearerOf(p.token)),
		"signing in":   s.call(t, "POST", "/loginUser", jsonBody(map[string]string{"username": p.username, "password": password})),
		"a refresh":    s.call(t, "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", p.refresh)),
		"readiness":    s.call(t, "GET", "/readyz"),
		"revoking":     s.call(t, "POST", "/oauth/revoke", formBody("token", p.token)),
	} {
		if a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, Retry-After %q", name, a.status, a.header.Get("Retry-After"))
		}
	}
	s.call(t, "GET", "/livez").want(t, 200)

	redisProxy.mend()
	databaseProxy.mend()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); s.call(t, "GET", "/v1/users/me", bearerOf(p.token)).status != 200; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("not recovered 5 s after both stores are back")
		}
	}
	if s.alive(t, dead) {
		t.Error("an ended session is back")
	}
	s.refreshed(t, p.refresh, 200)
}
