package httpsuite

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session"
)

// The test rotates signing keys with 'sessiond keys' while a client refreshes and checks access
// tokens at three replicas. The replicas must never refuse a valid token or accept an expired
// token.
func TestKeyRotation_KeepsTokensValidUnderLoad_ASVS_V11_2_2(t *testing.T) {
	t.Parallel()
	length, every := 4*time.Second, time.Second
	if isLong() {
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
			a := callAt(t, s.replicas[checks%3], "POST", "/oauth/token", refreshGrant(refresh)).patient(t)
			if a.status != 200 {
				t.Errorf("a refresh: status %d, want 200: %s", a.status, a.body)
				return
			}
			refresh = a.text(t, "refresh_token")
			tokens = append(tokens, a.text(t, "access_token"))
			// Check the newest token and a random older one at every replica.
			for i, base := range s.replicas {
				for _, token := range []string{tokens[len(tokens)-1], tokens[rand.IntN(len(tokens))]} {
					expiry := time.Unix(int64(claimsOf(t, token)["exp"].(float64)), 0)
					isExpired := time.Since(expiry) > session.Leeway+time.Second
					accepted := aliveAt(t, base, token)
					switch isValid := time.Now().Before(expiry); {
					case isValid && !accepted:
						t.Errorf("check %d: replica %d refuses a valid token", checks, i)
						return
					case isExpired && accepted:
						t.Errorf("check %d: replica %d accepts an expired token", checks, i)
						return
					case isExpired:
						expired++
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
	t.Logf("%d rotations; %d checks, %d of them of expired tokens", rotations, counts[0], counts[1])
}

// awaitKey waits until a replica publishes the key with this id in its JWKS document.
func awaitKey(t *testing.T, base, kid string) {
	t.Helper()
	await(t, "the replica publishes key "+kid, func() bool {
		return strings.Contains(string(callAt(t, base, "GET", "/.well-known/jwks.json").want(t, 200).body), kid)
	})
}

func TestJWKS_CanBeCachedAndRevalidated(t *testing.T) {
	s := startDev(t, t.TempDir())
	first := s.call(t, "GET", "/.well-known/jwks.json").want(t, 200)
	if cc := first.header.Get("Cache-Control"); cc != "public, max-age=300" {
		t.Errorf("Cache-Control is %q, want public, max-age=300", cc)
	}
	tag := first.header.Get("ETag")
	if again := s.call(t, "GET", "/.well-known/jwks.json", header("If-None-Match", tag)).want(t, 304); tag == "" || len(again.body) > 0 {
		t.Errorf("ETag is %q and the 304 has body %q, want an ETag and no body", tag, again.body)
	}
	for value, status := range map[string]int{
		"W/" + tag: 304, "*": 304, `"other", W/"a,b" , W/` + tag: 304, tag + `,"other"`: 304,
		`"other"`: 200, `W/"other"`: 200, `"` + tag: 200, "": 200, strings.Trim(tag, `"`): 200, `"a,` + tag + `"`: 200,
	} {
		if a := s.call(t, "GET", "/.well-known/jwks.json", header("If-None-Match", value)); a.status != status {
			t.Errorf("If-None-Match: %s: status %d, want %d", value, a.status, status)
		}
	}
	s.call(t, "HEAD", "/.well-known/jwks.json", header("If-None-Match", tag)).want(t, 304)
}
