package httpsuite

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// wantSecure fails the test unless the response has all security headers. The parameter `what`
// describes the request in error messages.
func (a response) wantSecure(t testing.TB, what string) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		"Strict-Transport-Security": "max-age=", "Content-Security-Policy": "default-src 'none'",
	} {
		if got := a.header.Values(name); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%s: %s is %q", what, name, got)
		}
	}
	if csp := a.header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("%s: Content-Security-Policy allows framing: %s", what, csp)
	}
	if a.header.Get("Cache-Control") == "" || a.header.Get("X-Request-Id") == "" {
		t.Errorf("%s: Cache-Control %q, X-Request-Id %q", what, a.header.Get("Cache-Control"), a.header.Get("X-Request-Id"))
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

func TestResponses_HaveSecurityHeaders(t *testing.T) {
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
			if r.fields != "" {
				send(r.method, path, r.auth(p.token, client), rawBody("text/plain", []byte("x"))).want(t, 415)
				send(r.method, path, r.auth(p.token, client), rawBody("application/json", make([]byte, 65<<10)))
			}
			if r.method == "GET" && !strings.Contains(path, "delete") {
				send(r.method, path, bearer(p.token))
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

func TestRoutes_Return405ForUnsupportedMethods(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		allowed := map[string][]string{}
		for _, r := range everyRoute() {
			path := r.at("nonsense")
			if path == "/v1/verify" { // the gateway check /v1/verify accepts every method
				continue
			}
			allowed[path] = append(allowed[path], r.method)
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
