package gateways_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// site holds a gateway, the application and the sessiond behind it, and sessions of two users.
type site struct {
	*service
	app        *app
	addr       string // address of the gateway
	relays     bool   // see gateway
	normalises bool   // see gateway
	alice, bob session
}

// service is a sessiond process, with a proxy in front of Redis and one in front of Postgres.
type service struct {
	addr            string
	redis, postgres *proxy
	env             []string
	process         *process
}

// startService starts sessiond with its own database and its own Redis key prefix. The settings have the
// form SESSIOND_NAME=value.
func startService(t *testing.T, settings ...string) *service {
	t.Helper()
	s := &service{addr: freeAddr(t)}
	redisURL, postgresURL := redisstoretest.RealURL(t), sqlstoretest.PostgresURL(t)
	prefix := redisstoretest.Prefix(t, redisURL)
	s.redis, redisURL = throughProxy(t, redisURL)
	s.postgres, postgresURL = throughProxy(t, postgresURL)
	keys := filepath.Join(t.TempDir(), "keys.json")
	s.env = []string{
		"PATH=" + os.Getenv("PATH"), "SESSIOND_DATABASE_URL=" + postgresURL, "SESSIOND_REDIS_URL=" + redisURL,
		"SESSIOND_REDIS_PREFIX=" + prefix, "SESSIOND_ISSUER=https://id.example", "SESSIOND_PUBLIC_URL=https://id.example",
		"SESSIOND_SIGNING_KEYS_FILE=" + keys, "SESSIOND_ADDR=" + s.addr, "SESSIOND_METRICS_ADDR=127.0.0.1:0",
		"SESSIOND_LIMITS=off", // the tests sign in often, and all from one address
	}
	s.env = append(s.env, settings...)
	for _, args := range [][]string{{"keys", "new", "--out", keys}, {"migrate"}} {
		cmd := exec.Command(buildSessiond(t), args...)
		if args[0] == "migrate" {
			cmd.Env = s.env
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sessiond %s: %v\n%s", args[0], err, out)
		}
	}
	s.start(t)
	return s
}

func (s *service) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(buildSessiond(t), "serve")
	cmd.Env = s.env
	s.process = start(t, s.addr, cmd)
}

// buildSessiond builds sessiond on its first call and returns the program's path.
func buildSessiond(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "sessiond-test-") //nolint:usetesting // not t.TempDir, because later tests use the program, too
		if err != nil {
			buildErr = err
			return
		}
		sessiondPath = filepath.Join(dir, "sessiond")
		if out, err := exec.Command("go", "build", "-o", sessiondPath, "../../cmd/sessiond").CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return sessiondPath
}

var (
	buildOnce    sync.Once
	sessiondPath string
	buildErr     error
)

const password = "correct horse battery"

// session is a user's session: its access token and the headers by which the
// application should learn who the user is.
type session struct {
	token    string
	identity map[string]string
}

// register creates an account and signs it in.
func (s *service) register(t *testing.T, username, email string) session {
	t.Helper()
	return s.signIn(t, "/registerUser", username, map[string]string{"username": username, "email": email, "password": password})
}

// login signs in an existing account.
func (s *service) login(t *testing.T, username string) session {
	t.Helper()
	return s.signIn(t, "/loginUser", username, map[string]string{"username": username, "password": password})
}

func (s *service) signIn(t *testing.T, path, username string, body map[string]string) session {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Token string }
	dial(t, s.addr).ask("POST", path, data, "Content-Type: application/json").want(t, 200).decode(t, &answer)
	var claims struct{ Sub, Sid, Jti string }
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(answer.Token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return session{answer.Token, map[string]string{
		"X-Auth-Subject": claims.Sub, "X-Auth-Username": strings.ReplaceAll(url.QueryEscape(username), "+", "%20"),
		"X-Auth-Session": claims.Sid, "X-Auth-Token-Id": claims.Jti,
	}}
}

// logout revokes the given session.
func (s *service) logout(t *testing.T, of session) {
	t.Helper()
	dial(t, s.addr).ask("DELETE", "/logout", nil, of.bearer()).want(t, 200)
}

func (s session) bearer() string { return "Authorization: Bearer " + s.token }

// app is the application behind the gateway. It records the requests that it gets
// and answers with the request as JSON, or with status N on the path /status/N.
type app struct {
	addr string
	mu   sync.Mutex
	seen []received
}

// received is a request as the application got it.
type received struct {
	Method, Target string
	Header         http.Header
	Body           []byte
	Trailer        http.Header // fields after a chunked body
}

func startApp(t *testing.T) *app {
	t.Helper()
	a := &app{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-From", "app")
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusTeapot) // no gateway sends this status itself
			return
		}
		got := received{r.Method, r.RequestURI, r.Header, body, r.Trailer}
		a.record(got)
		if status, ok := strings.CutPrefix(r.URL.Path, "/status/"); ok {
			n, _ := strconv.Atoi(status)
			w.WriteHeader(n)
			return
		}
		_ = json.NewEncoder(w).Encode(got)
	}))
	t.Cleanup(server.Close)
	a.addr = server.Listener.Addr().String()
	return a
}

func (a *app) record(r received) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = append(a.seen, r)
}

// take returns the requests that the application got since the last call of take.
func (a *app) take() []received {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

// takeOne returns the request that the application got since the last call of take. It fails the
// test if there was not exactly one.
func (a *app) takeOne(t *testing.T) received {
	t.Helper()
	seen := a.take()
	if len(seen) != 1 {
		t.Fatalf("the application got %d requests, want 1: %+v", len(seen), seen)
	}
	return seen[0]
}

// wantNone fails the test if the application got a request since the last call of take.
func (a *app) wantNone(t *testing.T) {
	t.Helper()
	if seen := a.take(); len(seen) > 0 {
		t.Fatalf("requests reached the application: %+v", seen)
	}
}

var identityHeaders = []string{"X-Auth-Subject", "X-Auth-Username", "X-Auth-Session", "X-Auth-Token-Id", "X-Auth-Roles"}

// identity returns the identity headers as a very lenient application reads them, for example
// X_AUTH.Subject as X-Auth-Subject, and trailers like headers.
func (r received) identity() map[string][]string {
	found := map[string][]string{}
	r.addIdentity(found, r.Header)
	r.addIdentity(found, r.Trailer)
	return found
}

func (r received) addIdentity(found map[string][]string, header http.Header) {
	for name, values := range header {
		folded := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, strings.ToLower(name))
		if canonical := http.CanonicalHeaderKey(folded); slices.Contains(identityHeaders, canonical) {
			found[canonical] = append(found[canonical], values...)
		}
	}
}

// wantIdentity fails the test unless r has exactly the identity headers of the given session.
func (r received) wantIdentity(t *testing.T, of session) {
	t.Helper()
	want := map[string][]string{}
	for name, value := range of.identity {
		want[name] = []string{value}
	}
	got := r.identity()
	if roles := got["X-Auth-Roles"]; len(roles) == 1 && roles[0] == "" {
		delete(got, "X-Auth-Roles") // some gateways drop an empty header
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Fatalf("%s %s: identity headers %q, want %q", r.Method, r.Target, got, want)
	}
}
