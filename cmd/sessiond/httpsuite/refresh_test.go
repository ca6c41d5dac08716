package httpsuite

import (
	"net/http"
	"net/url"
	"testing"
	"time"
)

// The test kills a replica during a refresh, between any two messages that the replica sends to the
// database. The client gets no reply, and repeats the refresh with the same refresh token at
// another replica. The client must always get new tokens.
func TestRefresh_SurvivesCrashOfReplica_ASVS_V2_3_3(t *testing.T) {
	t.Parallel()
	env := serveEnvironment(t)
	binary := program(t)
	runProgram(t, binary, env, "migrate")
	logs := &lockedBuffer{}
	healthy := startReplica(t, binary, env, logs)
	s := &service{base: healthy, replicas: []string{healthy}, logs: logs}
	p := s.register(t)
	refresh := p.refresh

	database, err := url.Parse(env["SESSIOND_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	proxy := startProxy(t, database.Host)
	database.Host = proxy.addr
	through := environ{}
	for name, value := range env {
		through[name] = value
	}
	through["SESSIOND_DATABASE_URL"] = database.String()
	// The replica also queries the database for its background tasks, most of all after its start. If
	// the proxy counts such a query, it only stops the refresh one message earlier.
	completed := 0
	for after := 0; completed < 2 && after < 150; after++ {
		proxy.mend()
		base, kill := startKillableReplica(t, binary, through, logs)
		held := proxy.holdAfter(after)
		result := make(chan int, 1)
		go func() {
			resp, err := http.PostForm(base+"/oauth/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})
			if err != nil {
				result <- 0
				return
			}
			_ = resp.Body.Close()
			result <- resp.StatusCode
		}()
		select {
		case <-held:
			kill()
			<-result
		case status := <-result:
			// The proxy held no message back, and the refresh succeeded. Ignore the reply, because this
			// test is about a client that did not receive the reply.
			if status == http.StatusOK {
				completed++
			}
			kill()
		case <-time.After(patience):
			t.Fatalf("after %d messages: no message was held and no reply came", after)
		}
		proxy.cut()
		token, next := s.refreshed(t, refresh, 200)
		if !s.alive(t, token) {
			t.Fatalf("after %d messages: the new token is refused", after)
		}
		// The new refresh token must work too. The next round uses the refresh token that it
		// returns.
		_, refresh = s.refreshed(t, next, 200)
	}
	if completed < 2 {
		t.Error("no refresh was completed, so the test did not reach every message")
	}
}
