package httpsuite

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// naughtyStrings returns strings that often break programs: every 4th string of the public Big List
// of Naughty Strings (every string with SESSIOND_TEST_LONG=1), and the strings in the variable
// nastiest.
func naughtyStrings(t *testing.T) []string {
	t.Helper()
	var list []string
	data, err := os.ReadFile(vectors + "blns/blns.json")
	if os.IsNotExist(err) {
		t.Logf("NOT TESTED against the Big List of Naughty Strings, which is not in %s", vectors)
		return nastiest
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	if !isLong() {
		list = every(list, 4)
	}
	return append(list, nastiest...)
}

// nastiest are strings that a database or an HTTP header may not be able to hold.
var nastiest = []string{
	"", "\x00", "a\x00b", "NULL", "' OR 1=1 -- 1", "%00%s%n", "\u202eevil", "a\u0300\u0301\u0302", "👩‍👩‍👧‍👦", "\ufeff", "\ufffd", "ﬀ", "İ", "ſ",
	"'; DROP TABLE users; --", `"); DELETE FROM sessions; --`, "x' UNION SELECT password_hash FROM users --", "$1", ":id", "?",
	"line\r\nSet-Cookie: a=b", "\x1b[31mred\x1b[0m", strings.Repeat("A", 300), strings.Repeat("é", 600), strings.Repeat("/../", 50), `{"$ne":null}`, `\u0000`,
}

func TestRequest_NaughtyStringsCauseNoServerError_ASVS_V1_2_4_V2_2_1(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		list := nastiest
		if s.prefix == "" { // this is 'sessiond dev'
			list = naughtyStrings(t)
		}
		slices.Sort(list)
		list = slices.Compact(list)
		for name, f := range map[string]func(*testing.T, *target, []string){
			"in fields": naughtyFields, "in queries": naughtyQueries, "in paths": naughtyPaths, "in headers": naughtyHeaders,
		} {
			t.Run(name, func(t *testing.T) {
				withBadInput(t, s, client, func(t *testing.T, x *target) { f(t, x, slices.Clone(list)) })
			})
		}
	}, "CLIENTS_FILE="+path, "TRUSTED_PROXIES=127.0.0.1/32")
}

func naughtyFields(t *testing.T, x *target, list []string) {
	type try struct {
		r            route
		field, value string
	}
	// Sending every string in every field would take too long. Each field of 'sessiond dev' gets
	// every 16th string. Each field also gets all strings in the variable nastiest, because password
	// hashes are cheap in 'sessiond dev'. Each field of 'sessiond serve' gets every 4th string of a
	// shorter list.
	step, dev := 16, x.prefix == ""
	if !dev {
		step = 4
	}
	var tries []try
	field := 0
	eachBodyRoute(func(r route, fields, _ []string) {
		for _, name := range fields {
			for i, value := range list {
				if dev && slices.Contains(nastiest, value) || i%step == field%step {
					tries = append(tries, try{r, name, value})
				}
			}
			field++
		}
	})
	inParallel(tries, func(c try) {
		body := x.validBody(c.r, x.sender)
		body[c.field] = c.value
		a := x.send(t, c.r, x.sender.token, body)
		if a.status >= 500 || a.status < 200 || a.status >= 300 && a.status < 400 {
			t.Errorf("%s %s with %s %q: status %d, want 2xx or 4xx: %s", c.r.method, c.r.path, c.field, c.value, a.status, a.body)
		}
		if !utf8.Valid(a.body) {
			t.Errorf("%s %s with %s %q: the response is not UTF-8", c.r.method, c.r.path, c.field, c.value)
		}
		if a.status == 200 && c.r.method == "PATCH" && strings.HasSuffix(c.field, "_name") {
			if got := a.text(t, c.field); got != c.value {
				t.Errorf("%s is %q, want %q as sent", c.field, got, c.value)
			}
		}
	})
}

func naughtyQueries(t *testing.T, x *target, list []string) {
	inParallel(list, func(value string) {
		for _, r := range routes {
			if r.path == "/v1/logins" {
				continue // /v1/logins parses its query with the same code as /v1/sessions
			}
			params, _ := names(r.params)
			for _, param := range params {
				a := x.call(t, r.method, r.path+"?"+param+"="+url.QueryEscape(value), bearer(x.sender.token))
				number := param == "limit" && len(value) < 4 && a.status == 200 // a short string may be a valid number
				if (a.status < 400 || a.status > 499) && !number {
					t.Errorf("%s %s?%s=%q: status %d, want 4xx: %s", r.method, r.path, param, value, a.status, a.body)
				}
			}
		}
		a := x.call(t, "DELETE", "/v1/sessions?"+url.QueryEscape(value)+"=current", bearer(x.sender.token)).patient(t)
		if a.status != 400 {
			t.Errorf("DELETE /v1/sessions?%q: status %d, want 400: %s", value, a.status, a.body)
		}
	})
	for _, raw := range []string{"username=%", "username=%zz", "username=a;b", "username=%ff%fe", "username=a&username=b", "%ff=a", "username", "&&&", "=&="} {
		a := x.call(t, "GET", "/findUser", bearer(x.sender.token), func(r *http.Request) { r.URL.RawQuery = raw })
		a.want(t, 400)
	}
}

func naughtyPaths(t *testing.T, x *target, list []string) {
	inParallel(list, func(value string) {
		for _, start := range []string{"GET /user/logins/delete/", "DELETE /v1/sessions/", "GET /", "GET /user/logins/delete/all/", "DELETE /v1/"} {
			method, path, _ := strings.Cut(start, " ")
			a := x.call(t, method, path+url.PathEscape(value), bearer(x.sender.token))
			if a.status < 400 || a.status > 499 {
				t.Errorf("%s%q: status %d, want 4xx: %s", start, value, a.status, a.body)
			}
		}
	})
	for _, target := range []string{"/%00", "/%ff", "/%2e%2e/%2e%2e/etc/passwd", "//evil.example/", "/.", "/user/logins/delete/..%2f..%2fdeletes%2fall", "/v1/sessions/%63urrent%00"} {
		for _, method := range []string{"GET", "DELETE"} {
			if status, _ := x.raw(t, method+" "+target+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+x.sender.token+"\r\nConnection: close\r\n\r\n"); status < 400 || status > 499 {
				t.Errorf("%s %s: status %d, want 4xx", method, target, status)
			}
		}
	}
}

// raw sends these bytes over a new connection and reads the response. Unlike an HTTP client
// library, it can send malformed requests.
func (x *target) raw(t *testing.T, request string) (status int, body string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(x.base, "http://"))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Error(err)
		return 0, ""
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Errorf("no response to %.200q: %v", request, err)
		return 0, ""
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(data)
}

func naughtyHeaders(t *testing.T, x *target, list []string) {
	signIn := fmt.Sprintf(`{"login":%q,"password":%q}`, x.sender.username, password)
	if x.prefix == "" {
		list = append(list, "\xff\xfe\xfd", "caf\xe9", "a\x80b", "\t", "tab\there")
	}
	signsIn := map[string]bool{} // the strings to send as headers of a login; only some, because a login is slow
	for _, value := range append(every(list, 4), nastiest...) {
		signsIn[value] = true
	}
	inParallel(list, func(value string) {
		plain := !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
		post := "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n" +
			fmt.Sprintf("Content-Length: %d\r\n", len(signIn))
		named := func(name string) string { return name + ": " + value + "\r\n" }
		if signsIn[value] {
			status, body := x.raw(t, post+named("User-Agent")+named("X-Forwarded-For")+named("X-Request-Id")+named("Forwarded")+named("Cookie")+named("Accept")+"\r\n"+signIn)
			if plain && status != 201 || status >= 500 {
				t.Errorf("login with headers %q: status %d: %s", value, status, body)
			}
		}
		get := "GET /v1/sessions/current HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
		for _, headers := range []string{
			named("Authorization"), "Authorization: Bearer " + value + "\r\n", named("Authorization") + "Authorization: Bearer " + x.sender.token + "\r\n",
		} {
			if status, body := x.raw(t, get+headers+"\r\n"); plain && status != 401 || status >= 500 || status == 200 {
				t.Errorf("GET /v1/sessions/current with %q: status %d, want 401: %s", headers, status, body)
			}
		}
		status, body := x.raw(t, "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+named("Content-Type")+"Content-Length: 2\r\n\r\n{}")
		if plain && status != 415 || status >= 500 || status < 400 {
			t.Errorf("Content-Type %q: status %d, want 415: %s", value, status, body)
		}
	})
	for what, request := range map[string]string{
		"no Host":                      "GET /livez HTTP/1.1\r\n\r\n",
		"two Hosts":                    "GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"two Content-Lengths":          "POST /loginUser HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"a negative Content-Length":    "POST /loginUser HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n{}",
		"an unknown Transfer-Encoding": "POST /loginUser HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n{}",
		"a bad chunk":                  "POST /loginUser HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		"a folded header":              "GET /livez HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
		"a bad version":                "GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n",
		"garbage":                      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"a space in a URL":             "GET /find User HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		if status, body := x.raw(t, request); status < 400 || status >= 500 && status != 501 && status != 505 {
			t.Errorf("%s: status %d, want 4xx, 501 or 505: %s", what, status, body)
		}
	}
}

// The base64 form of the Big List of Naughty Strings also contains bytes that a JSON string cannot
// hold. The test sends each string of that list as a username.
func TestUpdateUser_NaughtyBytesCauseNoServerError(t *testing.T) {
	var encoded []string
	if err := json.Unmarshal(vector(t, "blns/blns.base64.json"), &encoded); err != nil {
		t.Fatal(err)
	}
	s := startDev(t, t.TempDir())
	withBadInput(t, s, nil, func(t *testing.T, x *target) {
		inParallel(encoded, func(text string) {
			data, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Error(err)
				return
			}
			for contentType, body := range map[string]string{
				"application/json":                  `{"username":"` + string(data) + `"}`,
				"application/x-www-form-urlencoded": "username=" + string(data),
			} {
				a := s.call(t, "PUT", "/updateUser", rawBody(contentType, []byte(body)), bearer(x.sender.token)).patient(t)
				if a.status != 400 && a.status != 403 {
					t.Errorf("%q as %s: status %d, want 400 or 403: %s", data, contentType, a.status, a.body)
				}
			}
		})
	})
}
