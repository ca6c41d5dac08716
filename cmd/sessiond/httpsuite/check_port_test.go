package httpsuite

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// startWithCheckPort starts one replica with a check port, and returns the port's address.
func startWithCheckPort(t *testing.T, settings ...string) (s *service, addr string) {
	t.Helper()
	addr = freeAddr(t)
	return startServe(t, 1, append(settings, "CHECK_ADDR="+addr)...), addr
}

// rawAnswer sends a request and returns the answer as text, with its header lines sorted and without
// its date.
func rawAnswer(t *testing.T, addr, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	var answer bytes.Buffer
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &answer)), &http.Request{Method: method})
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	head, body, _ := strings.Cut(answer.String(), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	dates := len(lines)
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "Date: ") })
	if dates-len(lines) != 1 {
		t.Errorf("%q: the answer has %d dates", request, dates-len(lines))
	}
	if strings.HasPrefix(lines[0], "HTTP/1.0") { // where each connection closes unless the answer says otherwise
		lines = slices.DeleteFunc(lines, func(line string) bool { return line == "Connection: close" })
	}
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n") + "\n\n" + body
}

// checkCases are requests for /v1/verify, other paths, and for what net/http decides itself.
func checkCases(tokens map[string]string) (requests []string) {
	add := func(method, target, version string, fields ...string) {
		head := fmt.Sprintf("%s %s %s\r\nHost: id.example\r\nX-Request-Id: gateway-1\r\n", method, target, version)
		for _, field := range fields {
			head += field + "\r\n"
		}
		requests = append(requests, head+"\r\n")
	}
	for _, token := range tokens {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "BREW", "TRACE"} {
			add(method, "/v1/verify", "HTTP/1.1", token)
		}
		for _, target := range []string{
			"/v1/verify/", "/v1/verify/a/b%2Fc?d=e", "/v1/verify//x", "/v1/verify?x", "/v1/%76erify", "/v1/verify%2Fa", "/v1/verify%3Fa", "/v1/verify/%00", "/v1/verify/../sessions",
			"http://id.example/v1/verify", "http://id.example:80/v1/verify/x?y#z",
		} {
			add("GET", target, "HTTP/1.1", token)
		}
		add("GET", "/v1/verify", "HTTP/1.0", token)
		add("HEAD", "/v1/verify", "HTTP/1.0", token)
		add("GET", "/v1/verify", "HTTP/1.0", token, "Connection: keep-alive")
		add("GET", "/v1/verify", "HTTP/1.1", token, "Connection: close")
		add("GET", "/v1/verify", "HTTP/1.1", token, "Content-Length: 0", "Expect: 100-continue")
		add("GET", "/v1/verify", "HTTP/1.1", token, "X-Auth-Subject: forged", "X-Forwarded-For: 203.0.113.9, 10.1.2.3", "Forwarded: for=203.0.113.9")
		add("GET", "/v1/verify", "HTTP/1.1", token, "X-Auth-Roles:", "Cookie: a=b", "Origin: https://evil.example")
		requests = append(requests,
			"POST /v1/verify HTTP/1.1\r\nHost: x\r\nX-Request-Id: r\r\n"+token+"\r\nContent-Length: 3\r\n\r\nabc",
			"POST /v1/verify HTTP/1.1\r\nHost: x\r\nX-Request-Id: r\r\n"+token+"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	}
	for _, target := range []string{"/livez", "/livez/", "/livez?a=b", "/nowhere", "/", "/v1/verifyx", "/v1/verif", "/V1/verify", "//v1/verify", "/a/../v1/verify"} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "BREW"} {
			add(method, target, "HTTP/1.1", tokens["active"])
		}
	}
	for _, target := range []string{"x:443", "1.2.3.4:443", "[::1]:443", "a/v1/verify", "/v1/verify", "a/livezz"} {
		add("CONNECT", target, "HTTP/1.1", tokens["active"])
	}
	return requests
}

// The check port must answer like the main port, byte for byte, except for the order of the headers.
func TestCheckPort_AnswersLikeMainPort(t *testing.T) {
	t.Parallel()
	s, addr := startWithCheckPort(t, "TRUSTED_PROXIES=127.0.0.0/8")
	p := s.administrator(t)
	active := s.login(t, p)
	revoked := s.login(t, p)
	s.call(t, "DELETE", "/v1/sessions/current", bearer(revoked)).want(t, 204)
	main := strings.TrimPrefix(s.base, "http://")
	requests := checkCases(map[string]string{
		"active": "Authorization: Bearer " + active, "lower case": "authorization:bearer " + active, "revoked": "Authorization: Bearer " + revoked,
		"broken": "Authorization: Bearer " + active + "x", "none": "X-Other: x", "empty": "Authorization:", "basic": "Authorization: Basic Ym9iOmJvYg==",
		"two": "Authorization: Bearer " + active + "\r\nAuthorization: Bearer " + active,
	})
	counts := map[string]int{}
	for _, request := range requests {
		want, got := rawAnswer(t, main, request), rawAnswer(t, addr, request)
		if got != want {
			t.Errorf("%q\nmain port:  %q\ncheck port: %q", request, want, got)
		}
		status, _, _ := strings.Cut(got, "\n")
		counts[status]++
	}
	t.Logf("%d requests: %v", len(requests), counts)
	if counts["HTTP/1.1 200 OK"] < 40 || counts["HTTP/1.1 401 Unauthorized"] < 100 {
		t.Error("the requests do not cover both verdicts")
	}
	// What else the main port serves is not here.
	for _, path := range []string{"/v1/sessions", "/readyz", "/docs", "/v1/admin/users", "/metrics"} {
		callAt(t, "http://"+addr, "GET", path, bearer(active)).want(t, 404)
	}
}

func TestCheckPort_FailsClosedAndSeesRevocations_ASVS_V16_5_2(t *testing.T) {
	t.Parallel()
	_, redisURL := startRedis(t)
	redis := startProxy(t, strings.TrimPrefix(redisURL, "redis://"))
	postgresURL, database := proxiedPostgres(t)
	s, addr := startWithCheckPort(t, "REDIS_URL=redis://"+redis.addr, "DATABASE_URL="+postgresURL)
	p := s.register(t)
	check := func(token string) response { return callAt(t, "http://"+addr, "GET", "/v1/verify", bearer(token)) }
	for range 20 {
		token := s.login(t, p)
		check(token).wantIdentity(t, token, p.username)
		s.call(t, "DELETE", "/v1/sessions/current", bearer(token)).want(t, 204)
		check(token).problem(t, false, 401, "invalid_token")
	}
	redis.cut()
	check(p.token).wantIdentity(t, p.token, p.username)
	database.cut()
	a := check(p.token).want(t, 503)
	if a.header.Get("Retry-After") == "" || a.header.Get("X-Auth-Subject") != "" {
		t.Errorf("503 with the headers %v, want Retry-After and no identity", a.header)
	}
	redis.mend()
	database.mend()
	await(t, "200 after the outage", func() bool { return check(p.token).status == http.StatusOK })
}
