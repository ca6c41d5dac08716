package httpsuite

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session"
)

// A replica dies between any two messages that it sends to the database for a
// refresh. The client, which got no answer, goes on with the token it has, on
// another replica: it is never without one that works.
func TestReplicaDiesDuringRefresh(t *testing.T) {
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
	// The key file and the outbox are looked at each second by messages of their
	// own, which may be the ones held: then the refresh is merely cut earlier.
	answered := 0
	for after := 0; answered < 2 && after < 40; after++ {
		proxy.mend()
		base, kill := startKillable(t, binary, through, logs)
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
			// All its messages passed, and the answer was "lost" on the way.
			if status == http.StatusOK {
				answered++
			}
			kill()
		case <-time.After(20 * time.Second):
			t.Fatalf("after %d messages: neither held nor answered", after)
		}
		proxy.cut()
		token, next := s.refreshed(t, refresh, 200)
		if !s.alive(t, token) {
			t.Fatalf("after %d messages: the new token is refused", after)
		}
		// The successor must be good as well, and is the next round's token.
		_, refresh = s.refreshed(t, next, 200)
	}
	if answered < 2 {
		t.Error("no refresh came to its end: the test did not walk through all its steps")
	}
}

// Keys are rotated under load, through the tool that operators use, on three
// replicas: no token that is good is refused, and none of a retired key outlives
// its own expiry.
func TestKeysRotateUnderLoad(t *testing.T) {
	length, every := 12*time.Second, 3*time.Second
	if os.Getenv("SESSIOND_TEST_LONG") == "1" {
		length, every = 2*time.Minute, 5*time.Second
	}
	env := serveEnvironment(t)
	env.set([]string{"ACCESS_TOKEN_TTL=20s"})
	binary := program(t)
	runProgram(t, binary, env, "migrate")
	s := &service{logs: &lockedBuffer{}}
	for range 3 {
		s.replicas = append(s.replicas, startReplica(t, binary, env, s.logs))
	}
	s.base = s.replicas[0]
	p := s.register(t)
	file := env["SESSIOND_SIGNING_KEYS_FILE"]

	stop := make(chan struct{})
	finished := make(chan [2]int)
	go func() {
		checks, expired, refresh := 0, 0, p.refresh
		tokens := []string{p.token}
		defer func() { finished <- [2]int{checks, expired} }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			a := callAt(t, s.replicas[checks%3], "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", refresh))
			if a.status != 200 {
				t.Errorf("a refresh answered %d: %s", a.status, a.body)
				return
			}
			refresh = a.text(t, "refresh_token")
			tokens = append(tokens, a.text(t, "access_token"))
			// The newest token on every replica, and an older one of some key.
			for i, base := range s.replicas {
				for _, token := range []string{tokens[len(tokens)-1], tokens[rand.IntN(len(tokens))]} {
					expiry := time.Unix(int64(claimsOf(t, token)["exp"].(float64)), 0)
					good := time.Now().Before(expiry)
					accepted := aliveAt(t, base, token)
					switch {
					case good && time.Now().Before(expiry) && !accepted:
						t.Errorf("check %d: replica %d refuses a good token", checks, i)
						return
					case time.Since(expiry) > session.Leeway+time.Second && !accepted:
						expired++
					case time.Since(expiry) > session.Leeway+time.Second:
						t.Errorf("check %d: replica %d accepts an expired token", checks, i)
						return
					}
					checks++
				}
			}
		}
	}()

	rotations := 0
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for end := time.Now().Add(length); time.Now().Before(end); <-ticker.C {
		out := runProgram(t, binary, environ{}, "keys", "add", "--file", file)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		kid := strings.Fields(lines[len(lines)-1])[0]
		for _, base := range s.replicas {
			awaitKey(t, base, kid)
		}
		runProgram(t, binary, environ{}, "keys", "activate", "--file", file, "--kid", kid, "--now")
		rotations++
	}
	close(stop)
	counts := <-finished
	t.Logf("%d rotations; %d checks, of %d expired tokens; no good one refused, no expired one accepted", rotations, counts[0], counts[1])
}

// awaitKey waits until a replica publishes a key.
func awaitKey(t *testing.T, base, kid string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		if strings.Contains(string(callAt(t, base, "GET", "/.well-known/jwks.json").want(t, 200).body), kid) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a replica does not pick the key file up")
		}
	}
}

// Others may keep our keys for a while, and ask whether they have changed.
func TestJWKSCaching(t *testing.T) {
	s := startDev(t, t.TempDir())
	first := s.call(t, "GET", "/.well-known/jwks.json").want(t, 200)
	if cc := first.header.Get("Cache-Control"); cc != "public, max-age=300" {
		t.Errorf("Cache-Control is %q", cc)
	}
	tag := first.header.Get("ETag")
	if again := s.call(t, "GET", "/.well-known/jwks.json", header("If-None-Match", tag)).want(t, 304); tag == "" || len(again.body) > 0 {
		t.Errorf("ETag %q, body of the 304 %q", tag, again.body)
	}
	s.call(t, "GET", "/.well-known/jwks.json", header("If-None-Match", `"other"`)).want(t, 200)
}
