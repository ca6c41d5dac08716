package gateways_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
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
	"time"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// service is sessiond itself, with proxies between it and its stores.
type service struct {
	addr            string
	redis, postgres *proxy
	env             []string
	process         *process
}

// startService starts a sessiond process on a database and a key prefix of its own.
func startService(t *testing.T) *service {
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
		"SESSIOND_LIMITS=off", // the tests of one gateway are many logins from one address
	}
	for _, args := range [][]string{{"keys", "new", "--out", keys}, {"migrate"}} {
		cmd := exec.Command(program(t), args...)
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
	cmd := exec.Command(program(t), "serve")
	cmd.Env = s.env
	s.process = start(t, s.addr, cmd)
}

// program builds sessiond once.
func program(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "sessiond-test-") //nolint:usetesting // it outlives the test that is first to need it
		if err != nil {
			buildErr = err
			return
		}
		builtPath = filepath.Join(dir, "sessiond")
		if out, err := exec.Command("go", "build", "-o", builtPath, "../../cmd/sessiond").CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return builtPath
}

var (
	buildOnce sync.Once
	builtPath string
	buildErr  error
)

const password = "correct horse battery"

// login is somebody who is signed in.
type login struct {
	token    string
	identity map[string]string // what the application is to be told
}

// register makes an account and signs it in.
func (s *service) register(t *testing.T, username, email string) login {
	t.Helper()
	return s.signIn(t, "/registerUser", username, map[string]string{"username": username, "email": email, "password": password})
}

// login signs in an account once more.
func (s *service) login(t *testing.T, username string) login {
	t.Helper()
	return s.signIn(t, "/loginUser", username, map[string]string{"username": username, "password": password})
}

func (s *service) signIn(t *testing.T, path, username string, body map[string]string) login {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Token string }
	dial(t, s.addr).do("POST", path, data, "Content-Type: application/json").want(t, 200).into(t, &answer)
	var claims struct{ Sub, Sid, Jti string }
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(answer.Token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return login{answer.Token, map[string]string{
		"X-Auth-Subject": claims.Sub, "X-Auth-Username": strings.ReplaceAll(url.QueryEscape(username), "+", "%20"),
		"X-Auth-Session": claims.Sid, "X-Auth-Token-Id": claims.Jti,
	}}
}

// end ends the session.
func (s *service) end(t *testing.T, l login) {
	t.Helper()
	dial(t, s.addr).do("DELETE", "/logout", nil, l.bearer()).want(t, 200)
}

func (l login) bearer() string { return "Authorization: Bearer " + l.token }

// app is the application behind the gateway. It answers what it was asked, or
// the status that the path /status/N names.
type app struct {
	addr string
	mu   sync.Mutex
	seen []asked
}

// asked is a request as it arrived.
type asked struct {
	Method, Target string
	Header         http.Header
	Body           []byte
}

func startApp(t *testing.T) *app {
	t.Helper()
	a := &app{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusTeapot) // no gateway's own
			return
		}
		q := asked{r.Method, r.RequestURI, r.Header, body}
		a.mu.Lock()
		a.seen = append(a.seen, q)
		a.mu.Unlock()
		if status, ok := strings.CutPrefix(r.URL.Path, "/status/"); ok {
			n, _ := strconv.Atoi(status)
			w.Header().Set("X-From", "app")
			w.WriteHeader(n)
			return
		}
		_ = json.NewEncoder(w).Encode(q)
	}))
	t.Cleanup(server.Close)
	a.addr = server.Listener.Addr().String()
	return a
}

// take returns the requests that came since it was last called.
func (a *app) take() []asked {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

// takeOne returns the only request that came.
func (a *app) takeOne(t *testing.T) asked {
	t.Helper()
	seen := a.take()
	if len(seen) != 1 {
		t.Fatalf("%d requests came to the application, want 1: %+v", len(seen), seen)
	}
	return seen[0]
}

// untouched fails the test if any request came.
func (a *app) untouched(t *testing.T) {
	t.Helper()
	if seen := a.take(); len(seen) > 0 {
		t.Fatalf("the application was reached: %+v", seen)
	}
}

// identity is what an application makes of the headers that say who asks, which
// folds names as the loosest of servers do: X_AUTH.Subject is X-Auth-Subject.
func (q asked) identity() map[string][]string {
	found := map[string][]string{}
	for name, values := range q.Header {
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
	return found
}

var identityHeaders = []string{"X-Auth-Subject", "X-Auth-Username", "X-Auth-Session", "X-Auth-Token-Id"}

// wantIdentity fails the test unless the application was told exactly who asks.
func (q asked) wantIdentity(t *testing.T, l login) {
	t.Helper()
	want := map[string][]string{}
	for name, value := range l.identity {
		want[name] = []string{value}
	}
	if got := q.identity(); !maps.EqualFunc(got, want, slices.Equal) {
		t.Fatalf("%s %s: the application was told %q, want %q", q.Method, q.Target, got, want)
	}
}

// client is one connection, on which requests are written as they are given,
// without the repairs that net/http makes.
type client struct {
	t     *testing.T
	addr  string
	conn  net.Conn
	in    *bufio.Reader
	dials int // more than one only where an answer said Connection: close
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c := &client{t: t, addr: addr}
	c.dial()
	return c
}

func (c *client) dial() {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
	c.dials++
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request with these header lines, and with a body unless it is nil.
func (c *client) do(method, target string, body []byte, lines ...string) answer {
	c.t.Helper()
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: app.example\r\n", method, target)
	for _, line := range lines {
		out.WriteString(line + "\r\n")
	}
	if body != nil {
		fmt.Fprintf(&out, "Content-Length: %d\r\n", len(body))
	}
	out.WriteString("\r\n")
	out.Write(body)
	if _, err := c.conn.Write(out.Bytes()); err != nil {
		c.t.Fatalf("%s %s: %v", method, target, err)
	}
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, target, err)
	}
	if resp.Close {
		c.dial()
	}
	return answer{resp.StatusCode, resp.Header, data}
}

func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %v %s", a.status, status, a.header, a.body)
	}
	return a
}

// wantUnavailable fails the test unless the client is asked to come again.
func (a answer) wantUnavailable(t *testing.T) {
	t.Helper()
	a.want(t, 503)
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Fatalf("a 503 with Retry-After %q", a.header.Values("Retry-After"))
	}
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
}

// proxy passes connections to a server until it is cut.
type proxy struct {
	target string
	wg     sync.WaitGroup

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

// throughProxy returns a URL that leads through a proxy to the one given.
func throughProxy(t *testing.T, rawURL string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal("not a URL") // the error may quote the password
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: u.Host, conns: map[net.Conn]struct{}{}}
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.wg.Wait()
	})
	u.Host = l.Addr().String()
	return p, u.String()
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.add(client, server) {
		return
	}
	var wg sync.WaitGroup
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		wg.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].Close()
		})
	}
	wg.Wait()
}

func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return !p.down
}

// cut ends all connections and takes no new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}
