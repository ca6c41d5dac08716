package gateways_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A name that a gateway could trip over: blanks, beyond ASCII, and what some take
// for a variable or an escape.
const oddName = `Zoë "{env.HOME}" $host %41 %[src] 😀`

// TestGateways runs each gateway's file with the real program, in front of an
// application and of a real sessiond with real stores.
func TestGateways(t *testing.T) {
	for _, g := range gateways {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			g.find(t) // a missing program is told before anything is started
			s, a := startService(t), startApp(t)
			w := &world{service: s, app: a, addr: g.start(t, s.addr, a.addr)}
			w.alice = s.register(t, oddName, "zoe@example.com")
			w.bob = s.register(t, "bob", "bob@example.com")
			for _, c := range []struct {
				name string
				test func(*testing.T, *world)
			}{
				{"identity", testIdentity},
				{"no token", testNoToken},
				{"forged headers", testForged},
				{"two tokens", testTwoTokens},
				{"requests pass unharmed", testUnharmed},
				{"the application's own answers pass", testOwnAnswers},
				{"revoked", testRevoked},
				{"many at once", testManyAtOnce},
				{"stores down", testStoresDown},
				{"sessiond down", testServiceDown},
			} {
				if !t.Run(c.name, func(t *testing.T) { c.test(t, w) }) {
					return
				}
			}
		})
	}
}

// world is a gateway with what stands behind it and who comes to it.
type world struct {
	*service
	app        *app
	addr       string // of the gateway
	alice, bob login
}

func testIdentity(t *testing.T, w *world) {
	c := dial(t, w.addr)
	for _, l := range []login{w.alice, w.bob, w.alice} {
		c.do("GET", "/things", nil, l.bearer()).want(t, 200)
		w.app.takeOne(t).wantIdentity(t, l)
	}
}

func testNoToken(t *testing.T, w *world) {
	for _, lines := range [][]string{
		nil,
		{"Authorization: Bearer not.a.token"},
		{"Authorization: Basic Ym9iOmJvYg=="},
		{w.alice.bearer() + "x"},
		{"Cookie: token=" + w.alice.token},
	} {
		own := dial(t, w.service.addr).do("GET", "/v1/verify", nil, lines...).want(t, 401)
		got := dial(t, w.addr).do("GET", "/things", nil, lines...).want(t, 401)
		if want := own.header.Values("WWW-Authenticate"); len(want) != 1 || !slices.Equal(got.header.Values("WWW-Authenticate"), want) {
			t.Errorf("%q: challenge %q, want sessiond's %q", lines, got.header.Values("WWW-Authenticate"), want)
		}
	}
	// Neither is there a path, the check's own included, on which one needs none.
	for _, target := range append(targets, "/.sessiond/verify", "/v1/verify", "/.sessiond/../things", "/../things", "*") {
		if a := dial(t, w.addr).do("GET", target, nil); a.status < 400 || a.status >= 500 {
			t.Errorf("GET %s without a token: %d %s", target, a.status, a.body)
		}
	}
	w.app.untouched(t)
}

// Names that reach an application as ours, if it folds them as CGI does.
var forgedNames = []string{
	"X-Auth-Subject", "x-auth-subject", "X-AUTH-SUBJECT", "X_Auth_Subject", "x_auth_subject", "X-Auth_Subject", "X_Auth-Subject", "X.Auth.Subject",
	"X-Auth-Username", "X_AUTH_USERNAME", "X-Auth-Session", "x_auth-session",
	"X-Auth-Token-Id", "X_Auth_Token_Id", "X-Auth-Token_Id", "x-auth-token.id",
}

func testForged(t *testing.T, w *world) {
	forged := make([]string, 0, 2*len(forgedNames))
	for _, name := range forgedNames {
		forged = append(forged, name+": "+w.bob.identity["X-Auth-Subject"], name+": root")
	}
	// Headers that Connection names are for the gateway only, which must not take
	// ours for such.
	connection := "Connection: keep-alive, X-Auth-Subject, x-auth-username, X-Auth-Session,X-Auth-Token-Id"
	before := append(slices.Clone(forged), w.alice.bearer())
	after := append([]string{w.alice.bearer()}, forged...)
	for name, lines := range map[string][]string{
		"before": before, "after": after, "empty": {w.alice.bearer(), "X-Auth-Subject:", "X-Auth-Session: "},
		"connection": {connection, w.alice.bearer()}, "connection and forged": append(after, connection),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, w.addr)
			c.do("GET", "/things", nil, lines...).want(t, 200)
			w.app.takeOne(t).wantIdentity(t, w.alice)
			c.do("POST", "/things", []byte("x"), lines...).want(t, 200)
			w.app.takeOne(t).wantIdentity(t, w.alice)
		})
	}
	for _, lines := range [][]string{forged, append(forged, connection)} {
		dial(t, w.addr).do("GET", "/things", nil, lines...).want(t, 401)
	}
	// One by one: none hides behind another.
	for _, line := range forged {
		c := dial(t, w.addr)
		c.do("GET", "/things", nil, line).want(t, 401)
		w.app.untouched(t)
		c.do("GET", "/things", nil, line, w.alice.bearer()).want(t, 200)
		w.app.takeOne(t).wantIdentity(t, w.alice)
	}
}

// With two tokens, the one that was checked must not be another than the one
// that the application sees.
func testTwoTokens(t *testing.T, w *world) {
	a := dial(t, w.addr).do("GET", "/things", nil, w.alice.bearer(), w.bob.bearer())
	if a.status == 400 || a.status == 401 {
		w.app.untouched(t)
		return
	}
	a.want(t, 200)
	q := w.app.takeOne(t)
	q.wantIdentity(t, w.alice)
	if got := q.Header.Values("Authorization"); len(got) != 1 || "Authorization: "+got[0] != w.alice.bearer() {
		t.Errorf("alice was checked, and the application got %d tokens", len(got))
	}
}

// targets are paths that a gateway could be tempted to tidy up.
var targets = []string{
	"/", "/things?a=1&b=%20%2F&c=?", "/a%2Fb%2fc", "/a/../b", "/a/./b/", "//a//b", "/a%2e%2e/b", "/%2e%2e/v1/verify",
	"/v1/sessions/..%2f..%2fthings", "/a;b=c/d", "/%E2%98%83", "/a%00b", "/things?x=/v1/verify",
}

func testUnharmed(t *testing.T, w *world) {
	c := dial(t, w.addr)
	big := bytes.Repeat([]byte("0123456789abcdef"), 32<<10) // half a megabyte: more than any buffer
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"} {
		for _, body := range [][]byte{nil, []byte("{\"a\": \"\\u0000é\"}\r\n"), big} {
			if body != nil && (method == "GET" || method == "HEAD") {
				continue
			}
			c.do(method, "/things?q=1", body, w.alice.bearer()).want(t, 200)
			q := w.app.takeOne(t)
			q.wantIdentity(t, w.alice)
			if q.Method != method || q.Target != "/things?q=1" || !bytes.Equal(q.Body, body) {
				t.Errorf("%s with %d bytes arrived as %s %s with %d", method, len(body), q.Method, q.Target, len(q.Body))
			}
		}
	}
	for _, target := range targets {
		c := dial(t, w.addr)
		a := c.do("GET", target, nil, w.alice.bearer())
		if a.status == 400 { // refused by the gateway: not tidied up, either
			w.app.untouched(t)
			t.Logf("GET %s is refused", target)
			continue
		}
		a.want(t, 200)
		q := w.app.takeOne(t)
		q.wantIdentity(t, w.alice)
		if q.Target != target {
			t.Errorf("GET %s arrived as %s", target, q.Target)
		}
	}
	dial(t, w.addr).do("GET", "/things", nil, w.alice.bearer(), "X-Other: kept", "Cookie: a=b", "X-Auth-Token: kept").want(t, 200)
	q := w.app.takeOne(t)
	for name, want := range map[string]string{"X-Other": "kept", "Cookie": "a=b", "X-Auth-Token": "kept", "Authorization": "Bearer " + w.alice.token} {
		if got := q.Header.Values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s arrived as %q", name, got)
		}
	}
}

// What the application says is its own: a gateway must not take it for the
// check's.
func testOwnAnswers(t *testing.T, w *world) {
	for _, status := range []int{204, 302, 400, 401, 403, 404, 500, 502, 503} {
		a := dial(t, w.addr).do("GET", fmt.Sprint("/status/", status), nil, w.alice.bearer()).want(t, status)
		if a.header.Get("X-From") != "app" || a.header.Get("Retry-After") != "" || a.header.Get("WWW-Authenticate") != "" {
			t.Errorf("the application's %d arrived with %v", status, a.header)
		}
		w.app.takeOne(t)
	}
}

func testRevoked(t *testing.T, w *world) {
	c := dial(t, w.addr)
	for range 5 {
		l := w.login(t, "bob")
		c.do("GET", "/things", nil, l.bearer()).want(t, 200)
		w.app.takeOne(t).wantIdentity(t, l)
		w.end(t, l)
		if a := c.do("GET", "/things", nil, l.bearer()).want(t, 401); a.header.Get("WWW-Authenticate") == "" {
			t.Error("no challenge")
		}
		w.app.untouched(t)
		c.do("GET", "/things", nil, w.bob.bearer()).want(t, 200)
		w.app.takeOne(t).wantIdentity(t, w.bob)
	}
	if c.dials != 1 {
		t.Error("the connection was not kept")
	}
}

// Checks under way at the same time are not mixed up.
func testManyAtOnce(t *testing.T, w *world) {
	ended := w.login(t, "bob")
	w.end(t, ended)
	logins := []login{w.alice, w.bob, w.login(t, "bob"), ended}
	var wg sync.WaitGroup
	var let, refused atomic.Int64
	for i := range 64 {
		c, l := dial(t, w.addr), logins[i%len(logins)]
		wg.Go(func() {
			for range 15 {
				a := c.do("GET", "/things", nil, l.bearer())
				if l.token == ended.token {
					if a.status != 401 {
						t.Errorf("an ended session got %d", a.status)
					}
					refused.Add(1)
					continue
				}
				var q asked
				if a.status != 200 {
					t.Errorf("a live session got %d: %s", a.status, a.body)
					return
				}
				a.into(t, &q)
				q.wantIdentity(t, l)
				let.Add(1)
			}
		})
	}
	begin := time.Now()
	wg.Wait()
	t.Logf("%d let through and %d refused in %v", let.Load(), refused.Load(), time.Since(begin).Round(time.Millisecond))
	if n := len(w.app.take()); n != int(let.Load()) {
		t.Errorf("%d requests came to the application, want %d", n, let.Load())
	}
}

func testStoresDown(t *testing.T, w *world) {
	ended := w.login(t, "bob")
	w.end(t, ended)
	c := dial(t, w.addr)
	healthy := func(what string) {
		t.Helper()
		c.do("GET", "/things", nil, w.alice.bearer()).want(t, 200)
		w.app.takeOne(t).wantIdentity(t, w.alice)
		c.do("GET", "/things", nil, ended.bearer()).want(t, 401)
		w.app.untouched(t)
		t.Log(what + ": live 200, ended 401")
	}
	recovers := func() {
		t.Helper()
		poll(t, "recovery", func() bool {
			a := c.do("GET", "/things", nil, w.alice.bearer())
			if a.status != 200 {
				a.wantUnavailable(t)
			}
			return a.status == 200
		})
		w.app.take()
	}

	w.redis.cut()
	healthy("Redis down")

	w.postgres.cut()
	for _, l := range []login{w.alice, ended, w.bob} {
		begin := time.Now()
		c.do("GET", "/things", nil, l.bearer()).wantUnavailable(t)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("a 503 took %v", took)
		} else {
			t.Logf("Redis and Postgres down: 503 in %v", took.Round(time.Millisecond))
		}
	}
	w.app.untouched(t)

	w.postgres.mend()
	recovers()
	healthy("Postgres back")
	w.redis.mend()
	recovers()
	healthy("Redis back")
}

func testServiceDown(t *testing.T, w *world) {
	c := dial(t, w.addr)
	w.process.stop()
	for _, lines := range [][]string{{w.alice.bearer()}, {w.bob.bearer(), "X-Auth-Subject: root"}, nil} {
		begin := time.Now()
		c.do("GET", "/things", nil, lines...).wantUnavailable(t)
		t.Logf("sessiond down: 503 in %v", time.Since(begin).Round(time.Millisecond))
	}
	w.app.untouched(t)
	w.start(t)
	// Also over connections that the gateway had kept.
	for range 5 {
		c.do("GET", "/things", nil, w.alice.bearer()).want(t, 200)
		w.app.takeOne(t).wantIdentity(t, w.alice)
	}
}

// TestSuffix asks as Envoy does: a client's path behind the check's own leads to
// no other route, whatever it is.
func TestSuffix(t *testing.T) {
	s := startService(t)
	alice := s.register(t, oddName, "zoe@example.com")
	c := dial(t, s.addr)
	for _, method := range []string{"GET", "POST", "DELETE"} {
		for _, target := range append(targets, "/../../logout", "/..%2f..%2flogout", "/../sessions") {
			a := c.do(method, "/v1/verify"+target, nil, alice.bearer()).want(t, 200)
			for name, want := range alice.identity {
				if got := a.header.Values(name); !slices.Equal(got, []string{want}) {
					t.Errorf("%s %s: %s: %q, want %q", method, target, name, got, want)
				}
			}
			c.do(method, "/v1/verify"+target, nil).want(t, 401)
		}
	}
}

// TestCheck puts something else in sessiond's place, to see what it is asked and
// what a gateway makes of answers that sessiond would not give.
func TestCheck(t *testing.T) {
	for _, g := range gateways {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			g.find(t)
			check, a := startCheck(t), startApp(t)
			addr := g.start(t, check.addr, a.addr)
			t.Run("asked", func(t *testing.T) { testAsked(t, check, a, addr, g.keeps) })
			t.Run("strange answers", func(t *testing.T) { testStrangeAnswers(t, check, a, addr) })
		})
	}
}

// check answers what it is told to, or as sessiond does.
type check struct {
	*app
	conns  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func startCheck(t *testing.T) *check {
	t.Helper()
	k := &check{app: &app{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := new(bytes.Buffer)
		_, _ = body.ReadFrom(r.Body)
		k.mu.Lock()
		k.seen = append(k.seen, asked{r.Method, r.RequestURI, r.Header, body.Bytes()})
		k.mu.Unlock()
		if answer := k.answer.Load(); answer != nil {
			(*answer)(w, r)
			return
		}
		for _, name := range identityHeaders {
			w.Header().Set(name, "checked")
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			k.conns.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	k.addr = server.Listener.Addr().String()
	return k
}

func testAsked(t *testing.T, check *check, app *app, addr string, keeps bool) {
	c := dial(t, addr)
	requests := 0
	for _, method := range []string{"GET", "POST", "DELETE"} {
		for _, target := range targets {
			a := c.do(method, target, []byte("a body"), "Authorization: Bearer a.b.c", "Cookie: secret=1", "X-Auth-Subject: root",
				"X-Forwarded-For: 203.0.113.7", "X-Original-Uri: /loginUser", "X-Http-Method-Override: PUT")
			if a.status == 400 {
				continue // refused for its target
			}
			a.want(t, 200)
			requests++
			q := check.takeOne(t)
			if q.Target != "/v1/verify" || len(q.Body) > 0 {
				t.Errorf("%s %s: the check was asked %s %s with %d bytes", method, target, q.Method, q.Target, len(q.Body))
			}
			if got := q.Header.Values("Authorization"); !slices.Equal(got, []string{"Bearer a.b.c"}) {
				t.Errorf("the check was shown %q", got)
			}
			for _, name := range []string{"Cookie", "X-Auth-Subject"} {
				if q.Header.Get(name) != "" {
					t.Errorf("the check was sent %s: %s", name, q.Header.Get(name))
				}
			}
			if got := q.Header.Get("X-Forwarded-For"); got != "127.0.0.1" {
				t.Errorf("the check was told that the client is %q", got)
			}
			ids := app.takeOne(t).Header.Values("X-Request-Id")
			if id := q.Header.Get("X-Request-Id"); id == "" || !slices.Equal(ids, []string{id}) {
				t.Errorf("the check knows the request as %q, the application as %q", id, ids)
			}
		}
	}
	if n := int(check.conns.Load()); keeps && n > 5 || !keeps && n != requests {
		t.Errorf("%d checks opened %d connections", requests, n)
	}
}

func testStrangeAnswers(t *testing.T, check *check, app *app, addr string) {
	live := login{token: "a.b.c"}
	for name, answer := range map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(302)
		},
		"400":                     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) },
		"403":                     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"404":                     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"429":                     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
		"500":                     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"503 without Retry-After": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"hangs up":                func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"says nothing":            func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		check.answer.Store(&answer)
		begin := time.Now()
		a := dial(t, addr).do("GET", "/things", nil, live.bearer(), "X-Auth-Subject: root")
		t.Run(name, func(t *testing.T) { a.wantUnavailable(t) })
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
	app.untouched(t)

	// A yes without a name is no name of the client's choosing.
	nameless := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	check.answer.Store(&nameless)
	a := dial(t, addr).do("GET", "/things", nil, live.bearer(), "X-Auth-Subject: root", "X_Auth_Session: x")
	if a.status != 200 {
		a.wantUnavailable(t)
	}
	for _, q := range app.take() {
		for name, values := range q.identity() {
			if strings.Join(values, "") != "" {
				t.Errorf("the application was told %s: %q, which the check did not say", name, values)
			}
		}
	}
}
