package httpsuite

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
)

// startRedis starts a Redis server that only this test uses. The test may therefore wipe and
// monitor the server.
func startRedis(t *testing.T) (client *redis.Client, url string) {
	t.Helper()
	url = redisstoretest.StartServer(t)
	client = redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(url, "redis://")})
	t.Cleanup(func() { _ = client.Close() })
	return client, url
}

func TestWipedRedis_NeitherRevokesNorRevivesSessions_ASVS_V7_4_1(t *testing.T) {
	t.Parallel()
	client, url := startRedis(t)
	s := startServe(t, 3, "REDIS_URL="+url)
	var active, revoked []string
	for range 3 {
		p := s.register(t)
		tokens := s.manyLogins(t, p, 8)
		for _, token := range append(slices.Clone(tokens), p.token) {
			s.alive(t, token)
		}
		s.call(t, "DELETE", "/logout", bearer(tokens[0])).want(t, 200)
		s.call(t, "POST", "/oauth/revoke", formBody("token", tokens[1])).want(t, 200)
		id := s.call(t, "GET", "/v1/sessions/current", bearer(tokens[2])).want(t, 200).text(t, "id")
		s.call(t, "DELETE", "/v1/sessions/"+id, bearer(p.token)).want(t, 204)
		revoked, active = append(revoked, tokens[:3]...), append(active, append(tokens[3:], p.token)...)
	}
	// One user revokes all sessions but one. Another user revokes all sessions.
	p := s.register(t)
	others := s.manyLogins(t, p, 3)
	s.call(t, "DELETE", "/v1/sessions?except=current", bearer(p.token)).want(t, 200)
	revoked, active = append(revoked, others...), append(active, p.token)
	q := s.register(t)
	s.call(t, "GET", "/user/logins/deletes/all", bearer(q.token)).want(t, 200)
	revoked = append(revoked, q.token)

	for round := range 3 {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		for i, token := range active {
			if !aliveAt(t, s.replicas[(i+round)%3], token) {
				t.Errorf("round %d: active session %d is refused", round, i)
			}
		}
		for i, token := range revoked {
			// The first check reads the session from Postgres and writes it to Redis again. The second
			// check, at another replica, reads the session from Redis.
			if aliveAt(t, s.replicas[(i+round)%3], token) || aliveAt(t, s.replicas[(i+round+1)%3], token) {
				t.Errorf("round %d: revoked session %d is accepted", round, i)
			}
		}
	}
	t.Logf("%d active and %d revoked sessions, 3 times FLUSHALL", len(active), len(revoked))
}

// While Redis is down, logins and checks of access tokens must work. A revocation returns 503,
// because only Postgres has recorded it, and Redis still has the session as active. When Redis is
// back, the service must write the revocation to Redis.
func TestRedisOutage_LoginsWorkAndRevocationsAreEnforcedLater_ASVS_V16_5_2(t *testing.T) {
	t.Parallel()
	_, url := startRedis(t)
	proxy := startProxy(t, strings.TrimPrefix(url, "redis://"))
	s := startServe(t, 1, "REDIS_URL=redis://"+proxy.addr)
	p := s.register(t)
	old := s.login(t, p)
	if !s.alive(t, old) {
		t.Fatal("a new token is refused")
	}
	proxy.cut()
	token := s.login(t, p)
	if !s.alive(t, token) || !s.alive(t, old) {
		t.Error("while Redis is down, an active session is refused")
	}
	a := s.call(t, "DELETE", "/logout", bearer(old)).want(t, 503)
	if a.header.Get("Retry-After") == "" {
		t.Error("the 503 of the logout has no Retry-After")
	}
	if s.alive(t, old) {
		t.Error("while Redis is down, a session that is revoked in Postgres is accepted")
	}
	proxy.mend()
	// Redis still has the session as active until the service writes the revocation to Redis. On an
	// idle machine, that takes less than 5 s.
	begin := time.Now()
	await(t, "the recorded revocation is enforced in Redis", func() bool { return !s.alive(t, old) })
	t.Logf("the revocation was enforced %v after Redis was back", time.Since(begin).Round(time.Millisecond))
	if !s.alive(t, token) {
		t.Error("enforcing the revocation has revoked another session")
	}
}

// While both Redis and Postgres are down, the service can neither accept nor refuse an access
// token. It must answer 503, because clients would sign their users out after a 401.
func TestOutageOfBothStores_Returns503_ASVS_V16_5_1_V16_5_2_V16_5_3(t *testing.T) {
	t.Parallel()
	_, redisURL := startRedis(t)
	redisProxy := startProxy(t, strings.TrimPrefix(redisURL, "redis://"))
	databaseURL, databaseProxy := proxiedPostgres(t)
	s := startServe(t, 1, "REDIS_URL=redis://"+redisProxy.addr, "DATABASE_URL="+databaseURL)
	p := s.register(t)
	revoked := s.login(t, p)
	s.call(t, "DELETE", "/logout", bearer(revoked)).want(t, 200)

	redisProxy.cut()
	databaseProxy.cut()
	for name, a := range map[string]response{
		"a valid token":                      s.call(t, "GET", "/v1/users/me", bearer(p.token)),
		"a revoked token":                    s.call(t, "GET", "/v1/users/me", bearer(revoked)),
		"a gateway check":                    s.call(t, "GET", "/v1/verify", bearer(p.token)),
		"a gateway check of a revoked token": s.call(t, "PROPFIND", "/v1/verify/x", bearer(revoked)),
		"revoking all":                       s.call(t, "GET", "/user/logins/deletes/all", bearer(p.token)),
		"a login":                            s.call(t, "POST", "/loginUser", credentials(p.username, password)),
		"a refresh":                          s.call(t, "POST", "/oauth/token", refreshGrant(p.refresh)),
		"readiness":                          s.call(t, "GET", "/readyz"),
		"revoking a token":                   s.call(t, "POST", "/oauth/revoke", formBody("token", p.token)),
	} {
		if a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, Retry-After %q, want 503 with Retry-After", name, a.status, a.header.Get("Retry-After"))
		}
		inside := regexp.MustCompile(`(?i)127\.0\.0\.1|dial |refused|EOF|postgres|redis|SELECT|pq:|\.go:|goroutine`)
		if found := inside.Find(a.body); found != nil && name != "readiness" { // readiness names what is down
			t.Errorf("%s: the body reveals %q: %s", name, found, a.body)
		}
	}
	s.call(t, "GET", "/livez").want(t, 200)

	redisProxy.mend()
	databaseProxy.mend()
	await(t, "a valid token is accepted after the outage", func() bool {
		return s.call(t, "GET", "/v1/users/me", bearer(p.token)).status == 200
	})
	if s.alive(t, revoked) {
		t.Error("a revoked session is accepted after the outage")
	}
	s.refreshed(t, p.refresh, 200)
}
