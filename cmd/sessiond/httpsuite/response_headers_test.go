package httpsuite

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wantSecure fails the test unless the response has all security headers. The parameter `what`
// describes the request in error messages.
func (a response) wantSecure(t testing.TB, what string) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		"Strict-Transport-Security": "max-age=31536000; includeSubDomains", "Content-Security-Policy": "default-src 'none'",
	} {
		if got := a.header.Values(name); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%s: %s is %q", what, name, got)
		}
	}
	csp := a.header.Get("Content-Security-Policy")
	for _, directive := range []string{"object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, directive) {
			t.Errorf("%s: Content-Security-Policy lacks %s: %s", what, directive, csp)
		}
	}
	isPage := strings.HasPrefix(a.header.Get("Content-Type"), "text/html")
	if isPage == strings.HasSuffix(csp, "; sandbox") {
		t.Errorf("%s: Content-Security-Policy of a response of type %s: %s", what, a.header.Get("Content-Type"), csp)
	}
	isPublic := isPage || regexp.MustCompile(`/openapi\.json|/\.well-known/`).MatchString(what)
	if cached := a.header.Get("Cache-Control"); cached != "no-store" && !isPublic || cached == "" || a.header.Get("X-Request-Id") == "" {
		t.Errorf("%s: Cache-Control %q, X-Request-Id %q", what, cached, a.header.Get("X-Request-Id"))
	}
	if a.status >= 300 && a.status < 400 && a.status != http.StatusNotModified || a.header.Get("Location") != "" {
		t.Errorf("%s: redirects to %q", what, a.header.Get("Location"))
	}
	for _, name := range []string{"Server", "X-Powered-By"} {
		if a.header.Get(name) != "" {
			t.Errorf("%s: %s is %q", what, name, a.header.Get(name))
		}
	}
	if cookies := a.header.Values("Set-Cookie"); len(cookies) > 1 || len(cookies) == 1 && !strings.HasPrefix(strings.TrimPrefix(cookies[0], "__Host-"), "sessiond_device="+a.header.Get("X-Device-Token")+";") {
		t.Errorf("%s: got the cookies %q, want at most the device token", what, cookies)
	}
	if contentType := a.header.Get("Content-Type"); len(a.body) > 0 {
		if !strings.HasSuffix(contentType, "; charset=utf-8") || a.header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
			t.Errorf("%s: the body has %d bytes, but Content-Length is %s and Content-Type is %q", what, len(a.body), a.header.Get("Content-Length"), contentType)
		}
	}
}

func TestResponses_HaveSecurityHeaders_ASVS_V3_2_1_V3_4_1_V3_4_3_V3_4_4_V3_4_5_V3_4_6_V3_7_2_V4_1_1_V4_1_2_V14_2_2_V14_3_2(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		seen := map[int]bool{}
		send := func(method, path string, opts ...option) response {
			a := s.call(t, method, path, opts...)
			a.wantSecure(t, fmt.Sprintf("%s %s (%d)", method, path, a.status))
			seen[a.status] = true
			return a
		}
		for _, r := range everyRoute() {
			path := r.at("nonsense")
			if a := send(r.method, path); r.protected && a.status != 401 {
				t.Errorf("%s %s without a token: status %d, want 401", r.method, path, a.status)
			}
			if r.fields != "" && !r.bodyIsOptional() {
				send(r.method, path, r.auth(p.token, client), rawBody("text/plain", []byte("x"))).want(t, 415)
				send(r.method, path, r.auth(p.token, client), rawBody("application/json", make([]byte, 65<<10)))
			}
			if r.isSafe() {
				send(r.method, path, bearer(p.token))
				// No parameter makes the service redirect, and no header makes it redirect to https.
				send(r.method, path+"?next=//evil.example&redirect_uri=https://evil.example", bearer(p.token), header("X-Forwarded-Proto", "http"))
				send(r.method, "//evil.example/.."+path, bearer(p.token)).want(t, 404)
			}
		}
		send("POST", "/loginUser", credentials(p.username, password)).want(t, 200)
		send("POST", "/v1/sessions", jsonBody(shape{"login": p.username, "password": password})).want(t, 201)
		send("POST", "/v1/users", registration(p.username, "x"+p.email, password)).want(t, 409)
		send("POST", "/v1/password-resets", jsonBody(shape{"email": p.email})).want(t, 202)
		send("POST", "/oauth/token", refreshGrant("x")).want(t, 400)
		send("POST", "/oauth/revoke", formBody("token", "x")).want(t, 200)
		send("GET", "/findUser?username=somebody-else", bearer(p.token)).want(t, 403)
		send("GET", "/nothing").want(t, 404)
		send("GET", "/%ff%00").want(t, 404)
		send("GET", "/registerUser").want(t, 405)
		send("DELETE", "/v1/sessions/current", bearer(p.token)).want(t, 204)
		for _, status := range []int{200, 201, 202, 204, 400, 401, 403, 404, 405, 409, 413, 415} {
			if !seen[status] {
				t.Errorf("no response had status %d, so its headers are not tested", status)
			}
		}
		// The service returns the X-Request-Id of a request if the id is safe to log. Otherwise it
		// returns a new id.
		if got := send("GET", "/livez", header("X-Request-Id", "from-the-proxy_1")).header.Get("X-Request-Id"); got != "from-the-proxy_1" {
			t.Errorf("X-Request-Id is %q, want that of the request", got)
		}
		for _, id := range []string{"a b", strings.Repeat("x", 65), `"><script>`, "ünïcode"} {
			if got := send("GET", "/livez", header("X-Request-Id", id)).header.Get("X-Request-Id"); got == id || got == "" {
				t.Errorf("X-Request-Id is %q, want a new id", got)
			}
		}
	}, "CLIENTS_FILE="+path)
}

func TestRoutes_Return405ForUnsupportedMethods_ASVS_V3_5_3_V13_4_4(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		allowed := map[string][]string{}
		for _, r := range everyRoute() {
			path := r.at("nonsense")
			if path == "/v1/verify" { // the gateway check /v1/verify accepts every method but TRACE
				a := s.call(t, "TRACE", path, bearer(p.token)).want(t, 405)
				if a.wantSecure(t, "TRACE "+path); a.header.Get("Allow") == "" || a.header.Get("X-Auth-Subject") != "" {
					t.Errorf("TRACE %s: got the headers %v", path, a.header)
				}
				continue
			}
			allowed[path] = append(allowed[path], r.method)
			if r.isSafe() {
				allowed[path] = append(allowed[path], "HEAD")
			}
		}
		for path, methods := range allowed {
			slices.Sort(methods)
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "FOO"} {
				if slices.Contains(methods, method) {
					continue
				}
				a := s.call(t, method, path, bearer(p.token), header("X-Http-Method-Override", methods[0]), header("X-Secret", "echo?"))
				if a.status != http.StatusMethodNotAllowed {
					t.Errorf("%s %s: status %d, want 405", method, path, a.status)
					continue
				}
				got := slices.Collect(strings.SplitSeq(strings.Join(a.header.Values("Allow"), ","), ","))
				for i := range got {
					got[i] = strings.TrimSpace(got[i])
				}
				slices.Sort(got)
				if !slices.Equal(got, methods) {
					t.Errorf("%s %s: Allow is %v, want %v", method, path, got, methods)
				}
				a.wantSecure(t, method+" "+path)
				if method != "HEAD" && (a.text(t, "code") != "method_not_allowed" || strings.Contains(string(a.body), "echo?")) {
					t.Errorf("%s %s: got %s, want code method_not_allowed without request headers", method, path, a.body)
				}
			}
		}
		for _, method := range []string{"GET", "HEAD", "PROPFIND", "get", "FOO"} {
			a := s.call(t, method, "/nowhere").want(t, 404)
			if a.header.Get("Allow") != "" || method != "HEAD" && a.text(t, "code") != "not_found" {
				t.Errorf("%s of an unknown path: Allow is %q, body %s", method, a.header.Get("Allow"), a.body)
			}
		}
		if !s.alive(t, p.token) {
			t.Error("a method that is not allowed revoked a session")
		}
	})
}

// HEAD has the status and the headers of GET. The classic routes that revoke sessions by GET answer
// it with 405, which TestRoutes_Return405ForUnsupportedMethods tests.
func TestHead_IsAnsweredLikeGETWithoutBody(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		for _, r := range everyRoute() {
			if !r.isSafe() || strings.HasSuffix(r.path, "/export") { // the export holds the time of the request
				continue
			}
			path := r.at("nonsense")
			if strings.HasSuffix(path, "/findUser") {
				path += "?username=" + p.username
			}
			get := s.call(t, "GET", path, bearer(p.token))
			head := s.call(t, "HEAD", path, bearer(p.token))
			if head.status != get.status || len(head.body) > 0 {
				t.Errorf("HEAD %s: status %d with %d bytes, want the status %d of GET and no body", path, head.status, len(head.body), get.status)
			}
			for _, name := range []string{"Content-Type", "Content-Length", "ETag", "Cache-Control"} {
				if name == "Content-Length" && len(get.body) == 0 {
					continue // RFC 9110 section 8.6: HEAD may leave it out
				}
				if head.header.Get(name) != get.header.Get(name) {
					t.Errorf("HEAD %s: %s is %q, for GET %q", path, name, head.header.Get(name), get.header.Get(name))
				}
			}
		}
	})
}

func TestRoutes_IgnoreTrailingSlash_ASVS_V13_4_3(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		for _, r := range everyRoute() {
			path := r.at("nonsense")
			if r.method+path == "DELETE/v1/sessions" {
				continue
			}
			for _, opts := range [][]option{nil, {bearer("x")}} {
				with, without := s.call(t, r.method, path+"/", opts...), s.call(t, r.method, path, opts...)
				if with.status != without.status || with.status == 404 {
					t.Errorf("%s %s/: status %d, without the slash %d: %s", r.method, path, with.status, without.status, with.body)
				}
			}
		}
		s.call(t, "GET", "/v1/sessions/?limit=1", bearer(p.token)).want(t, 200)
		s.call(t, "POST", "/loginUser/", credentials(p.username, password)).want(t, 200)
		s.call(t, "GET", "/nowhere/").want(t, 404)
		s.call(t, "GET", "/").want(t, 404)
		s.call(t, "GET", "/livez//").want(t, 404)
		// A client whose variable for a session's id is empty must not revoke all sessions.
		s.call(t, "DELETE", "/v1/sessions/", bearer(p.token)).want(t, 404)
		if !s.alive(t, p.token) {
			t.Error("DELETE /v1/sessions/ revoked the session")
		}
	})
}

// A client that announces a body and does not send it must not keep a gateway waiting.
func TestGET_IsAnsweredBeforeAnnouncedBodyArrives(t *testing.T) {
	s := startDev(t, t.TempDir())
	token := s.login(t, s.register(t))
	for _, target := range []string{"GET /v1/verify", "POST /v1/verify/a", "GET /livez", "HEAD /v1/users/me", "GET /user/logins/show"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		method, _, _ := strings.Cut(target, " ")
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: 5\r\n\r\n", target, token)
		begin := time.Now()
		_ = conn.SetReadDeadline(begin.Add(patience))
		response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		_ = response.Body.Close()
		if took := time.Since(begin); response.StatusCode != 200 || !response.Close || took > 5*time.Second { // without the feature, it takes 10 seconds
			t.Errorf("%s: status %d after %v, close: %t; want 200 at once and a closed connection", target, response.StatusCode, took, response.Close)
		}
	}
}

// net/http would answer these requests itself, without security headers, or accept them.
func TestMalformedRequests_GetSecurityHeadersAndClosedConnection_ASVS_V3_4_1_V3_4_4_V3_4_5_V4_2_1(t *testing.T) {
	metricsAddr := freeAddr(t)
	s := startServe(t, 1, "METRICS_ADDR="+metricsAddr)
	callAt(t, "http://"+metricsAddr, "GET", "/metrics").want(t, 200)
	const body = "Content-Length: 1\r\n\r\nx"
	for _, addr := range []string{strings.TrimPrefix(s.base, "http://"), metricsAddr} {
		for request, status := range map[string]int{
			"POST /loginUser HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + body:     400,
			"GET /livez HTTP/1.1\r\nHost: x\nA: b\r\n\r\n":                                     400,
			"GET /user/logins/show HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n":                     400,
			"GET /user/logins/deletes/all HTTP/1.1\r\n\r\n":                                    400,
			"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n":                                            400,
			"POST /loginUser HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n" + body:                  417,
			"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("x", 25<<10) + "\r\n\r\n": 431,
			"POST /loginUser HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n":           501,
			"GET /livez HTTP/3.0\r\nHost: x\r\n\r\n":                                           505,
			"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                    404,
		} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			fmt.Fprint(conn, request)
			reader := bufio.NewReader(conn)
			answer, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatalf("%.80q: %v", request, err)
			}
			text, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || answer.StatusCode != status || !answer.Close {
				t.Errorf("%.80q: got %d %s, close: %t, %v; want %d and a closed connection", request, answer.StatusCode, text, answer.Close, err, status)
			}
			if _, err := reader.ReadByte(); err != io.EOF {
				t.Errorf("%.80q: after the response, the connection is open: %v", request, err)
			}
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Strict-Transport-Security": "max-age=31536000; includeSubDomains", "Referrer-Policy": "no-referrer",
				"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
			} {
				if got := answer.Header.Values(name); !slices.Equal(got, []string{want}) {
					t.Errorf("%.80q: %s is %q, want %q", request, name, got, want)
				}
			}
		}
	}
}
