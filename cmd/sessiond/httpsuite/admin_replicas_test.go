package httpsuite

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The test changes the roles of a user 100 times (1,000 with SESSIOND_TEST_LONG=1) at one replica. The next check
// at each of three others must answer with the new ones, although the token has others. A check is one round trip
// to Redis, which a proxy counts.
func TestRoles_AreSeenByNextCheckOnOtherReplicas(t *testing.T) {
	t.Parallel()
	changes := 100
	if isLong() {
		changes = 1000
	}
	_, url := startRedis(t)
	redis := startProxy(t, strings.TrimPrefix(url, "redis://"))
	s := startServe(t, 4, "REDIS_URL=redis://"+redis.addr, "REAUTH_MAX_AGE=0")
	boss, p := s.administrator(t), s.register(t)
	sub := claimsOf(t, p.token)["sub"].(string)
	var trips atomic.Int64 // messages to Redis about the session
	key := []byte("s:{" + sub + "}:" + s.currentID(t, p.token))
	redis.watch(func(message []byte) { trips.Add(int64(min(1, bytes.Count(message, key)))) })
	verify := func(base, want string) {
		t.Helper()
		a := callAt(t, base, "GET", "/v1/verify", bearer(p.token)).want(t, 200)
		if got := a.header.Get("X-Auth-Roles"); got != want {
			t.Fatalf("a check answers the roles %q, want %q", got, want)
		}
	}
	const steady = 20
	var seen, checks int
	var steadyTrips int64
	for i := range changes {
		roles := fmt.Sprintf("r%d,reader", i)
		body := shape{"roles": strings.Split(roles, ",")}
		callAt(t, s.base, "PATCH", "/v1/admin/users/"+sub, bearer(boss.token), jsonBody(body)).want(t, 200)
		for _, base := range s.replicas[1:] {
			verify(base, roles)
			seen++
		}
		before := trips.Load()
		for j := range steady {
			verify(s.replicas[j%4], roles)
			checks++
		}
		steadyTrips += trips.Load() - before
	}
	if float64(steadyTrips) > 1.01*float64(checks) || steadyTrips == 0 {
		t.Errorf("%d checks took %d round trips to Redis, want one each", checks, steadyTrips)
	}
	if got := fmt.Sprint(claimsOf(t, p.token)["roles"]); got != "<nil>" {
		t.Errorf("the token itself has the roles %s, so this test shows less", got)
	}
	t.Logf("%d of %d checks saw the roles of that moment; %.2f round trips to Redis a check", seen, 3*changes, float64(steadyTrips)/float64(checks))
}

// Three replicas answer some 500 checks a second of the user's tokens while the user is suspended. No check that
// begins after the response may accept a token.
func TestSuspend_UnderLoadRefusesAtOnce_ASVS_V7_4_5(t *testing.T) {
	rounds := 5
	if isLong() {
		rounds = 50
	}
	s := startServe(t, 3)
	boss := s.administrator(t)
	var checks, accepted int64
	for round := range rounds {
		p := s.register(t)
		path := "/v1/admin/users/" + claimsOf(t, p.token)["sub"].(string)
		tokens := append(s.manyLogins(t, p, 3), p.token)
		var suspended atomic.Pointer[time.Time]
		var wrong atomic.Int64
		stop := make(chan struct{})
		var checkers sync.WaitGroup
		for i := range 5 {
			checkers.Go(func() {
				tick := time.NewTicker(10 * time.Millisecond)
				defer tick.Stop()
				for n := i; ; n++ {
					select {
					case <-stop:
						return
					case <-tick.C:
					}
					began := time.Now()
					a := callAt(t, s.replicas[n%3], "GET", "/v1/verify", bearer(tokens[n%len(tokens)]))
					atomic.AddInt64(&checks, 1)
					if at := suspended.Load(); at != nil && began.After(*at) && a.status == 200 {
						wrong.Add(1)
					}
				}
			})
		}
		after := func(n int64) {
			until := atomic.LoadInt64(&checks) + n
			await(t, "more checks", func() bool { return atomic.LoadInt64(&checks) >= until })
		}
		after(100)
		callAt(t, s.replicas[round%3], "POST", path+"/suspend", bearer(boss.token), jsonBody(shape{"reason": "test"})).want(t, 204)
		suspended.Store(new(time.Now()))
		callAt(t, s.replicas[(round+1)%3], "POST", "/v1/sessions", jsonBody(shape{"login": p.username, "password": password})).want(t, 403)
		after(250)
		close(stop)
		checkers.Wait()
		accepted += wrong.Load()
		callAt(t, s.replicas[round%3], "POST", path+"/reinstate", bearer(boss.token), jsonBody(shape{})).want(t, 204)
		if fresh := s.login(t, p); !aliveAt(t, s.replicas[(round+2)%3], fresh) || aliveAt(t, s.replicas[(round+1)%3], tokens[0]) {
			t.Error("after the reinstatement, a new session is refused, or an ended one is accepted")
		}
	}
	if accepted > 0 {
		t.Errorf("%d of %d checks accepted a token after the response", accepted, checks)
	}
	t.Logf("%d suspensions beside %d checks: %d accepted after the response", rounds, checks, accepted)
}
