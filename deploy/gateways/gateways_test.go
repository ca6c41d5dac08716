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

// oddName is a username that gateways could mangle: it has spaces, characters beyond
// ASCII, and text that looks like variables and escapes of the gateways.
const oddName = `Zoë "{env.HOME}" $host %41 %[src] 😀`

// timeLimit is the longest time that a client may wait for a 503. The tested configuration files set
// timeouts of 3 to 5 seconds. Without these timeouts, gateways would wait for 30 seconds or more.
const timeLimit = 20 * time.Second

// TestGateways_ForwardOnlyRequestsOfActiveSessions_ASVS_V4_1_3 runs each gateway program with its configuration
// file, in front of an application and of a sessiond that uses real Redis and Postgres servers.
func TestGateways_ForwardOnlyRequestsOfActiveSessions_ASVS_V4_1_3(t *testing.T) {
	for _, g := range gateways {
		t.Run(g.title(), func(t *testing.T) {
			t.Parallel()
			g.find(t) // if the gateway is not installed, find skips the test before any server is started
			s := &site{service: startService(t), app: startApp(t), relays: g.relays, normalises: g.normalises}
			s.addr = g.start(t, s.service.addr, s.app.addr)
			s.alice = s.register(t, oddName, "zoe@example.com")
			s.bob = s.register(t, "bob", "bob@example.com")
			for _, c := range []struct {
				name string
				test func(*testing.T, *site)
			}{
				{"adds the identity headers", testIdentity},
				{"returns 401 without a valid token", testNoToken},
				{"removes forged identity headers", testForgedHeaders},
				{"removes forged addresses of the client", testForgedAddress},
				{"removes trailers", testTrailers},
				{"forwards large uploads", testUpload},
				{"forwards the token that was checked when there are two", testTwoTokens},
				{"does not change the request", testRequestUnchanged},
				{"does not change the application's answer", testAnswerUnchanged},
				{"returns 401 as soon as a session is revoked", testRevoked},
				{"does not mix up concurrent requests", testConcurrent},
				{"returns 503 while both stores are down", testStoresDown},
				{"returns 503 while sessiond is down", testServiceDown},
			} {
				if !t.Run(c.name, func(t *testing.T) { c.test(t, s) }) {
					return
				}
			}
		})
	}
}

func testIdentity(t *testing.T, s *site) {
	c := dial(t, s.addr)
	for _, user := range []session{s.alice, s.bob, s.alice} {
		c.ask("GET", "/things", nil, user.bearer()).want(t, 200)
		s.app.takeOne(t).wantIdentity(t, user)
	}
}

func testNoToken(t *testing.T, s *site) {
	for _, lines := range [][]string{
		nil,
		{"Authorization: Bearer not.a.token"},
		{"Authorization: Basic Ym9iOmJvYg=="},
		{s.alice.bearer() + "x"},
		{"Cookie: token=" + s.alice.token},
	} {
		direct := dial(t, s.service.addr).ask("GET", "/v1/verify", nil, lines...).want(t, 401)
		got := dial(t, s.addr).ask("GET", "/things", nil, lines...).want(t, 401)
		if want := direct.header.Values("WWW-Authenticate"); len(want) != 1 || !slices.Equal(got.header.Values("WWW-Authenticate"), want) {
			t.Errorf("%q: challenge %q, want sessiond's %q", lines, got.header.Values("WWW-Authenticate"), want)
		}
	}
	// No path works without a token, not even the path of the check itself.
	for _, target := range append(targets, "/.sessiond/verify", "/v1/verify", "/.sessiond/../things", "/../things", "*") {
		if a := dial(t, s.addr).ask("GET", target, nil); a.status < 400 || a.status >= 500 {
			t.Errorf("GET %s without a token: %d %s, want 4xx", target, a.status, a.body)
		}
	}
	s.app.wantNone(t)
}

// forgedNames are spellings of the identity headers. An application that normalises header names as
// CGI does cannot tell them from the real ones.
var forgedNames = []string{
	"X-Auth-Subject", "x-auth-subject", "X-AUTH-SUBJECT", "X_Auth_Subject", "x_auth_subject", "X-Auth_Subject", "X_Auth-Subject", "X.Auth.Subject",
	"X-Auth-Username", "X_AUTH_USERNAME", "X-Auth-Session", "x_auth-session",
	"X-Auth-Token-Id", "X_Auth_Token_Id", "X-Auth-Token_Id", "x-auth-token.id",
	"X-Auth-Roles", "x_auth_roles", "X-Auth_Roles", "X.Auth.Roles",
}

func testForgedHeaders(t *testing.T, s *site) {
	forged := make([]string, 0, 2*len(forgedNames))
	for _, name := range forgedNames {
		forged = append(forged, name+": "+s.bob.identity["X-Auth-Subject"], name+": root")
	}
	// A gateway removes the headers that a Connection header names. A client must not be able to
	// remove the identity headers that way.
	connection := "Connection: keep-alive, X-Auth-Subject, x-auth-username, X-Auth-Session,X-Auth-Token-Id, X-Auth-Roles"
	before := append(slices.Clone(forged), s.alice.bearer())
	after := append([]string{s.alice.bearer()}, forged...)
	for name, lines := range map[string][]string{
		"forged headers before the token":        before,
		"forged headers after the token":         after,
		"empty identity headers":                 {s.alice.bearer(), "X-Auth-Subject:", "X-Auth-Session: "},
		"a Connection header that names them":    {connection, s.alice.bearer()},
		"a Connection header and forged headers": append(after, connection),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s.addr)
			c.ask("GET", "/things", nil, lines...).want(t, 200)
			s.app.takeOne(t).wantIdentity(t, s.alice)
			c.ask("POST", "/things", []byte("x"), lines...).want(t, 200)
			s.app.takeOne(t).wantIdentity(t, s.alice)
		})
	}
	for _, lines := range [][]string{forged, append(forged, connection)} {
		dial(t, s.addr).ask("GET", "/things", nil, lines...).want(t, 401)
	}
	// Send each forged header alone, too, because one forged header could hide another.
	for _, line := range forged {
		c := dial(t, s.addr)
		c.ask("GET", "/things", nil, line).want(t, 401)
		s.app.wantNone(t)
		c.ask("GET", "/things", nil, line, s.alice.bearer()).want(t, 200)
		s.app.takeOne(t).wantIdentity(t, s.alice)
	}
}

func testForgedAddress(t *testing.T, s *site) {
	dial(t, s.addr).ask("GET", "/things", nil, s.alice.bearer(), "X-Real-IP: 203.0.113.7", "Forwarded: for=203.0.113.7", "X-Forwarded-For: 203.0.113.7").want(t, 200)
	for name, values := range s.app.takeOne(t).Header {
		if strings.Contains(strings.Join(values, ","), "203.0.113.7") {
			t.Errorf("the application got the forged address in %s: %q", name, values)
		}
	}
}

// testTrailers sends identity headers as trailers of a chunked body. A gateway may refuse such a
// request, but it must not forward them.
func testTrailers(t *testing.T, s *site) {
	for name, declaration := range map[string]string{"undeclared": "", "declared": "Trailer: X-Auth-Subject\r\n"} {
		a := dial(t, s.addr).exchange("POST", "POST /things HTTP/1.1\r\nHost: app.example\r\n"+s.alice.bearer()+"\r\n"+declaration+
			"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Auth-Subject: evil\r\nX_Auth_Session: evil\r\n\r\n")
		if a.status == 411 {
			s.app.wantNone(t)
			t.Logf("the gateway refuses a chunked body with %s trailers", name)
			continue
		}
		a.want(t, 200)
		got := s.app.takeOne(t)
		got.wantIdentity(t, s.alice)
		if string(got.Body) != "abc" {
			t.Errorf("the body arrived as %q", got.Body)
		}
	}
}

func testUpload(t *testing.T, s *site) {
	upload := bytes.Repeat([]byte("x"), 2<<20)
	dial(t, s.addr).ask("POST", "/things", upload, s.alice.bearer()).want(t, 200)
	if got := s.app.takeOne(t); !bytes.Equal(got.Body, upload) {
		t.Errorf("an upload of %d bytes arrived with %d", len(upload), len(got.Body))
	}
}

// testTwoTokens sends two tokens. A gateway may refuse such a request, but it must not check one
// token and forward the other.
func testTwoTokens(t *testing.T, s *site) {
	a := dial(t, s.addr).ask("GET", "/things", nil, s.alice.bearer(), s.bob.bearer())
	if a.status == 400 || a.status == 401 {
		s.app.wantNone(t)
		return
	}
	a.want(t, 200)
	got := s.app.takeOne(t)
	got.wantIdentity(t, s.alice)
	if tokens := got.Header.Values("Authorization"); len(tokens) != 1 || "Authorization: "+tokens[0] != s.alice.bearer() {
		t.Errorf("the application got %d tokens, want only alice's, which was checked", len(tokens))
	}
}

// targets are request targets that a gateway might normalise.
var targets = []string{
	"/", "/things?a=1&b=%20%2F&c=?", "/a%2Fb%2fc", "/a/../b", "/a/./b/", "//a//b", "/a%2e%2e/b", "/%2e%2e/v1/verify",
	"/v1/sessions/..%2f..%2fthings", "/a;b=c/d", "/%E2%98%83", "/a%00b", "/things?x=/v1/verify",
}

// normalisedTargets are the targets that a gateway may change if it normalises paths, and what they become.
var normalisedTargets = map[string]string{
	"/a%2Fb%2fc": "/a%2Fb%2Fc", "/a/../b": "/b", "/a/./b/": "/a/b/", "//a//b": "/a/b", "/a%2e%2e/b": "/a../b", "/%2e%2e/v1/verify": "/v1/verify",
	"/v1/sessions/..%2f..%2fthings": "/v1/sessions/..%2F..%2Fthings",
}

func testRequestUnchanged(t *testing.T, s *site) {
	c := dial(t, s.addr)
	big := bytes.Repeat([]byte("0123456789abcdef"), 32<<10) // half a megabyte, because no gateway buffers so much
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"} {
		for _, body := range [][]byte{nil, []byte("{\"a\": \"\\u0000é\"}\r\n"), big} {
			if body != nil && (method == "GET" || method == "HEAD") {
				continue
			}
			c.ask(method, "/things?q=1", body, s.alice.bearer()).want(t, 200)
			got := s.app.takeOne(t)
			got.wantIdentity(t, s.alice)
			if got.Method != method || got.Target != "/things?q=1" || !bytes.Equal(got.Body, body) {
				t.Errorf("%s with %d bytes arrived as %s %s with %d bytes", method, len(body), got.Method, got.Target, len(got.Body))
			}
		}
	}
	for _, target := range targets {
		a := dial(t, s.addr).ask("GET", target, nil, s.alice.bearer())
		if a.status == 400 { // a gateway may refuse a target, but not change it
			s.app.wantNone(t)
			t.Logf("the gateway refuses GET %s", target)
			continue
		}
		a.want(t, 200)
		got := s.app.takeOne(t)
		got.wantIdentity(t, s.alice)
		want := target
		if normalised, ok := normalisedTargets[target]; ok && s.normalises {
			want = normalised
		}
		if got.Target != want {
			t.Errorf("GET %s arrived as %s", target, got.Target)
		}
	}
	dial(t, s.addr).ask("GET", "/things", nil, s.alice.bearer(), "X-Other: kept", "Cookie: a=b", "X-Auth-Token: kept").want(t, 200)
	got := s.app.takeOne(t)
	for name, want := range map[string]string{"X-Other": "kept", "Cookie": "a=b", "X-Auth-Token": "kept", "Authorization": "Bearer " + s.alice.token} {
		if values := got.Header.Values(name); !slices.Equal(values, []string{want}) {
			t.Errorf("%s arrived as %q, want %q", name, values, want)
		}
	}
}

// testAnswerUnchanged lets the application answer with statuses such as 401, which sessiond's check
// uses, too. A gateway must not mistake the application's answer for the answer of the check.
func testAnswerUnchanged(t *testing.T, s *site) {
	for _, status := range []int{204, 302, 400, 401, 403, 404, 500, 502, 503} {
		a := dial(t, s.addr).ask("GET", fmt.Sprint("/status/", status), nil, s.alice.bearer()).want(t, status)
		if !a.fromApp() || a.header.Get("Retry-After") != "" || a.header.Get("WWW-Authenticate") != "" {
			t.Errorf("the application's %d arrived with the headers %v", status, a.header)
		}
		s.app.takeOne(t)
	}
}

func testRevoked(t *testing.T, s *site) {
	c := dial(t, s.addr)
	for range 5 {
		other := s.login(t, "bob")
		c.ask("GET", "/things", nil, other.bearer()).want(t, 200)
		s.app.takeOne(t).wantIdentity(t, other)
		s.logout(t, other)
		if a := c.ask("GET", "/things", nil, other.bearer()).want(t, 401); a.header.Get("WWW-Authenticate") == "" {
			t.Error("401 without a challenge")
		}
		s.app.wantNone(t)
		c.ask("GET", "/things", nil, s.bob.bearer()).want(t, 200)
		s.app.takeOne(t).wantIdentity(t, s.bob)
	}
	if c.reopened > 0 {
		t.Error("the gateway closed the connection")
	}
}

func testConcurrent(t *testing.T, s *site) {
	revoked := s.login(t, "bob")
	s.logout(t, revoked)
	sessions := []session{s.alice, s.bob, s.login(t, "bob"), revoked}
	var wg sync.WaitGroup
	var accepted, refused atomic.Int64
	for i := range 64 {
		c, of := dial(t, s.addr), sessions[i%len(sessions)]
		wg.Go(func() {
			for range 15 {
				a := c.ask("GET", "/things", nil, of.bearer())
				if of.token == revoked.token {
					if a.status != 401 {
						t.Errorf("status %d for a revoked session, want 401", a.status)
					}
					refused.Add(1)
					continue
				}
				if a.status != 200 {
					t.Errorf("status %d for an active session, want 200: %s", a.status, a.body)
					return
				}
				var got received
				a.decode(t, &got)
				got.wantIdentity(t, of)
				accepted.Add(1)
			}
		})
	}
	begin := time.Now()
	wg.Wait()
	t.Logf("%d requests accepted and %d refused in %v", accepted.Load(), refused.Load(), time.Since(begin).Round(time.Millisecond))
	if n := len(s.app.take()); n != int(accepted.Load()) {
		t.Errorf("the application got %d requests, want %d", n, accepted.Load())
	}
}

func testStoresDown(t *testing.T, s *site) {
	revoked := s.login(t, "bob")
	s.logout(t, revoked)
	c := dial(t, s.addr)
	// wantVerdicts waits until the gateway accepts an active session and refuses a revoked session.
	// sessiond may need a moment until it uses a Redis or Postgres again that was down.
	wantVerdicts := func(when string) {
		t.Helper()
		c.ask("GET", "/things", nil, s.alice.bearer()).want(t, 200)
		s.app.takeOne(t).wantIdentity(t, s.alice)
		c.ask("GET", "/things", nil, revoked.bearer()).want(t, 401)
		s.app.wantNone(t)
		t.Log(when + ": 200 for an active session, 401 for a revoked one")
	}

	s.redis.cut()
	wantVerdicts("Redis down")

	s.postgres.cut()
	for _, of := range []session{s.alice, revoked, s.bob} {
		begin := time.Now()
		c.do("GET", "/things", nil, of.bearer()).wantUnavailable(t)
		wantWithin(t, begin, "503 while Redis and Postgres are down")
	}
	s.app.wantNone(t)

	s.postgres.restore()
	wantVerdicts("Postgres back")
	s.redis.restore()
	wantVerdicts("Redis back")
}

// wantWithin fails the test if more than timeLimit has passed since begin.
func wantWithin(t *testing.T, begin time.Time, what string) {
	t.Helper()
	took := time.Since(begin)
	if took > timeLimit {
		t.Errorf("%s: took %v, want at most %v", what, took, timeLimit)
	}
	t.Logf("%s: took %v", what, took.Round(time.Millisecond))
}

func testServiceDown(t *testing.T, s *site) {
	c := dial(t, s.addr)
	s.process.stop()
	for _, lines := range [][]string{{s.alice.bearer()}, {s.bob.bearer(), "X-Auth-Subject: root"}, nil} {
		begin := time.Now()
		c.do("GET", "/things", nil, lines...).wantUnchecked(t, s.relays)
		wantWithin(t, begin, "answer while sessiond is down")
	}
	s.app.wantNone(t)
	s.start(t)
	// sessiond runs again. A 503 that comes late only means that the check timed out. But a 503 that
	// comes at once means that the gateway used a connection to the old process and did not retry.
	dial(t, s.service.addr).ask("GET", "/v1/verify", nil, s.alice.bearer()).want(t, 200)
	for range 5 {
		begin := time.Now()
		a := c.do("GET", "/things", nil, s.alice.bearer())
		if took := time.Since(begin); a.status == 503 && took > 100*time.Millisecond {
			t.Logf("503 after %v: the machine is busy", took)
			a = c.ask("GET", "/things", nil, s.alice.bearer())
		}
		a.want(t, 200)
		s.app.takeOne(t).wantIdentity(t, s.alice)
	}
}

// TestVerify_IgnoresPathSuffix sends checks as Envoy does, with the client's path after /v1/verify.
// No such path may lead to another route of sessiond.
func TestVerify_IgnoresPathSuffix(t *testing.T) {
	s := startService(t)
	alice := s.register(t, oddName, "zoe@example.com")
	c := dial(t, s.addr)
	for _, method := range []string{"GET", "POST", "DELETE"} {
		for _, target := range append(targets, "/../../logout", "/..%2f..%2flogout", "/../sessions") {
			a := c.ask(method, "/v1/verify"+target, nil, alice.bearer()).want(t, 200)
			for name, want := range alice.identity {
				if got := a.header.Values(name); !slices.Equal(got, []string{want}) {
					t.Errorf("%s %s: %s is %q, want %q", method, target, name, got, want)
				}
			}
			c.ask(method, "/v1/verify"+target, nil).want(t, 401)
		}
	}
}

// TestGateways_SendSessiondNoBodyAndTrustOnlyExpectedAnswers tests gateways with a fake sessiond. The
// fake records what gateways send, and gives answers that the real sessiond never gives.
func TestGateways_SendSessiondNoBodyAndTrustOnlyExpectedAnswers(t *testing.T) {
	for _, g := range gateways {
		t.Run(g.title(), func(t *testing.T) {
			t.Parallel()
			g.find(t)
			check, a := startCheck(t), startApp(t)
			addr := g.start(t, check.addr, a.addr)
			check.take() // a request may have shown that the gateway is ready
			a.take()
			t.Run("a check contains only the token, the client address and a request id", func(t *testing.T) { testCheckRequest(t, check, a, addr, g) })
			t.Run("the client gets 503 if the answer of sessiond is unexpected", func(t *testing.T) { testUnexpectedAnswers(t, check, a, addr, g.relays) })
		})
	}
}

// check is a fake sessiond. It records its requests, and accepts every token unless answer is set.
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
		k.record(received{r.Method, r.RequestURI, r.Header, body.Bytes(), r.Trailer})
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

func testCheckRequest(t *testing.T, check *check, app *app, addr string, g gateway) {
	c := dial(t, addr)
	requests := 0
	for _, method := range []string{"GET", "POST", "DELETE"} {
		for _, target := range targets {
			a := c.do(method, target, []byte("a body"), "Authorization: Bearer a.b.c", "Cookie: secret=1", "X-Auth-Subject: root",
				"X-Forwarded-For: 203.0.113.7", "X-Original-Uri: /loginUser", "X-Http-Method-Override: PUT",
				"X-Real-IP: 203.0.113.7", "Forwarded: for=203.0.113.7")
			if a.status == 400 {
				continue // this gateway refuses such a request target
			}
			a.want(t, 200)
			requests++
			got := check.takeOne(t)
			if got.Target != "/v1/verify" || len(got.Body) > 0 {
				t.Errorf("%s %s: the check got %s %s with %d bytes, want /v1/verify without a body", method, target, got.Method, got.Target, len(got.Body))
			}
			if tokens := got.Header.Values("Authorization"); !slices.Equal(tokens, []string{"Bearer a.b.c"}) {
				t.Errorf("the check got the Authorization headers %q, want the client's", tokens)
			}
			for _, name := range []string{"Cookie", "X-Auth-Subject", "X-Real-Ip", "Forwarded"} {
				if got.Header.Get(name) != "" {
					t.Errorf("the check got %s: %s, want no such header", name, got.Header.Get(name))
				}
			}
			if client := got.Header.Get("X-Forwarded-For"); client != "127.0.0.1" {
				t.Errorf("the check got the client address %q, want 127.0.0.1", client)
			}
			ids := app.takeOne(t).Header.Values("X-Request-Id")
			if id := got.Header.Get("X-Request-Id"); !g.noIDs && (id == "" || !slices.Equal(ids, []string{id})) {
				t.Errorf("the check got the request id %q, the application %q; want the same", id, ids)
			}
		}
	}
	if n := int(check.conns.Load()); g.keepsConns && n > 5 || !g.keepsConns && n != requests {
		t.Errorf("%d checks opened %d connections", requests, n)
	}
}

func testUnexpectedAnswers(t *testing.T, check *check, app *app, addr string, relays bool) {
	user := session{token: "a.b.c"}
	for name, answer := range map[string]http.HandlerFunc{
		"302 redirect": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(302)
		},
		"400":                     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) },
		"403":                     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"404":                     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"429":                     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
		"500":                     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"503 without Retry-After": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"closed connection":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"no answer":               func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		if relays && name == "no answer" {
			continue // such a gateway waits for 30 seconds
		}
		t.Run(name, func(t *testing.T) {
			check.answer.Store(&answer)
			begin := time.Now()
			dial(t, addr).do("GET", "/things", nil, user.bearer(), "X-Auth-Subject: root").wantUnchecked(t, relays)
			wantWithin(t, begin, "answer")
		})
	}
	app.wantNone(t)

	// A gateway may accept a 200 without identity headers, but must then not forward the client's
	// own identity headers.
	noIdentity := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	check.answer.Store(&noIdentity)
	a := dial(t, addr).do("GET", "/things", nil, user.bearer(), "X-Auth-Subject: root", "X_Auth_Session: x")
	if a.status != 200 {
		a.wantUnavailable(t)
	}
	for _, got := range app.take() {
		for name, values := range got.identity() {
			if strings.Join(values, "") != "" {
				t.Errorf("the application got %s: %q, which the check did not send", name, values)
			}
		}
	}
}
