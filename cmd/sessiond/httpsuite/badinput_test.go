package httpsuite

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
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode/utf8"
)

// vectors is where test vectors of others are, beside the project.
const vectors = "../../../../shared/vectors/"

// vector reads one of their files.
func vector(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(vectors + name)
	if os.IsNotExist(err) {
		t.Skipf("NOT TESTED against the vectors: %s is not there", vectors+name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// target is a service that is shown bad input. It has two users: the doer may
// be changed by what turns out to be good input, the bystander by nothing.
type target struct {
	*service
	doer, bystander person
	client          option
	before          string
}

// shownBadInput runs f, which shows a service bad input, and fails the test if
// anything came of it: a change, a fault in the log, or the end of the process.
func shownBadInput(t *testing.T, s *service, client option, f func(t *testing.T, x *target)) {
	t.Helper()
	x := &target{service: s, doer: s.register(t), bystander: s.register(t), client: client}
	x.before = x.seen(t)
	f(t, x)
	if after := x.seen(t); after != x.before {
		t.Errorf("bad input changed something:\n%s\nwas\n%s", after, x.before)
	}
	s.login(t, x.bystander)
	s.call(t, "GET", "/livez").want(t, 200)
	s.call(t, "GET", "/readyz").want(t, 200)
	for line := range strings.Lines(s.logged(t)) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "panic") {
			t.Errorf("a fault in the log: %s", line)
		}
	}
}

// seen is what the bystander can see of themselves.
func (x *target) seen(t *testing.T) string {
	t.Helper()
	me := x.call(t, "GET", "/v1/users/me", bearerOf(x.bystander.token)).want(t, 200)
	sessions := x.call(t, "GET", "/v1/sessions", bearerOf(x.bystander.token)).want(t, 200)
	logins := x.call(t, "GET", "/v1/logins", bearerOf(x.bystander.token)).want(t, 200)
	return string(me.body) + "\n" + string(sessions.body) + "\n" + string(logins.body)
}

// eachBodyRoute calls f with every route that takes a body.
func eachBodyRoute(f func(r route, fields, required []string)) {
	for _, r := range routes {
		if r.fields != "" {
			fields, required := names(r.fields)
			f(r, fields, required)
		}
	}
}

// good makes a body that the route may accept: of whom, and with a name that is
// new each time where one is made.
func (x *target) good(r route, p person) map[string]any {
	body := map[string]any{}
	_, required := names(r.fields)
	for _, field := range required {
		body[field] = map[string]string{
			"username": p.username, "login": p.username, "email": p.email, "password": password, "new_password": goodPassword,
			"current_password": "wrong passphrase", "token": strings.Repeat("A", 43), "resetPasswordToken": strings.Repeat("A", 43),
			"grant_type": "refresh_token", "refresh_token": strings.Repeat("A", 64),
		}[field]
	}
	if r.path == "/registerUser" || r.path == "/v1/users" {
		body["username"] = freshName()
		body["email"] = freshName() + "@example.com"
	}
	return body
}

// send sends a body in the form that the route takes.
func (x *target) send(t *testing.T, r route, token string, body map[string]any) answer {
	t.Helper()
	opt := jsonBody(body)
	if r.kind == oauth {
		var pairs []string
		for name, value := range body {
			pairs = append(pairs, name, fmt.Sprint(value))
		}
		opt = formBody(pairs...)
	}
	return x.call(t, r.method, r.path, opt, r.auth(token, x.client))
}

// refused fails the test unless the answer is a 400 that names these fields;
// "*" is any.
func (r *route) refused(t *testing.T, what string, a answer, fields ...string) {
	t.Helper()
	if a.status != http.StatusBadRequest {
		t.Errorf("%s %s, %s: status %d: %.200s", r.method, r.path, what, a.status, a.body)
		return
	}
	if r.kind == oauth {
		a.oauthError(t, 400, "invalid_request")
		return
	}
	var p problemBody
	a.into(t, &p)
	var named []string
	for _, e := range p.Errors {
		named = append(named, e.Field)
	}
	if p.Code != "invalid_request" || len(named) == 0 || fields[0] != "*" && !slices.Equal(named, fields) {
		t.Errorf("%s %s, %s: %s names the fields %q, want %q", r.method, r.path, what, p.Code, named, fields)
	}
}

// inParallel calls f with each of the things, from a few goroutines.
func inParallel[T any](things []T, f func(T)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(things); i = int(next.Add(1)) - 1 {
				f(things[i])
			}
		})
	}
	wg.Wait()
}

// ---- bodies that are no JSON, or not the JSON that is wanted ----------------

type suiteFile struct {
	name string
	data []byte
}

func jsonSuite(t *testing.T) []suiteFile {
	t.Helper()
	paths, err := filepath.Glob(vectors + "json_test_suite/test_parsing/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Skipf("NOT TESTED against the vectors: %sjson_test_suite is not there", vectors)
	}
	files := make([]suiteFile, len(paths))
	for i, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = suiteFile{filepath.Base(path), data}
	}
	return files
}

// What the suite says must not be accepted is a 400 everywhere. What it says
// must be is JSON, but none that we know.
func TestJSONSuiteAsBody(t *testing.T) {
	files := jsonSuite(t)
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		shownBadInput(t, s, client, func(t *testing.T, x *target) {
			files := files
			if s.prefix != "" { // the same code as in dev; a sample shows that it is there
				files = every(files, 10)
			}
			inParallel(files, func(f suiteFile) {
				eachBodyRoute(func(r route, _, _ []string) {
					contentType, data := "application/json", f.data
					if r.kind == oauth {
						contentType = "application/x-www-form-urlencoded"
					}
					a := x.call(t, r.method, r.path, rawBody(contentType, data), r.auth(x.doer.token, client))
					if empty := bytes.Equal(bytes.TrimSpace(data), []byte("{}")); r.method == "PATCH" && empty {
						a.want(t, 200) // nothing to change, and nothing wrong with that
						return
					}
					if len(data) > 64<<10 {
						a.want(t, 413)
						return
					}
					r.refused(t, f.name, a, "*")
					var value any
					if err := json.Unmarshal(data, &value); r.kind != oauth && (err != nil || !isText(value)) {
						fields, _ := names(r.fields)
						nested := fmt.Sprintf(`{%q:%s}`, fields[0], data)
						r.refused(t, f.name+" as "+fields[0], x.call(t, r.method, r.path, rawBody(contentType, []byte(nested)), r.auth(x.doer.token, client)), "*")
					}
				})
			})
		})
	}, "CLIENTS_FILE="+path)
}

// isText tells whether a value may stand for a text.
func isText(v any) bool {
	_, ok := v.(string)
	return ok || v == nil
}

// every thins out a list.
func every[T any](list []T, n int) []T {
	var out []T
	for i := 0; i < len(list); i += n {
		out = append(out, list[i])
	}
	return out
}

func TestBadFields(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		shownBadInput(t, s, client, func(t *testing.T, x *target) {
			made := map[string]bool{} // names that must not have come into being
			eachBodyRoute(func(r route, fields, required []string) {
				raw := func(contentType, body string) answer {
					return x.call(t, r.method, r.path, rawBody(contentType, []byte(body)), r.auth(x.doer.token, client))
				}
				without := func(field string) map[string]any {
					body := x.good(r, x.doer)
					if name, ok := body["username"].(string); ok && name != x.doer.username {
						made[name] = true
					}
					delete(body, field)
					return body
				}
				for _, field := range required {
					r.refused(t, "without "+field, x.send(t, r, x.doer.token, without(field)), field)
					empty := without(field)
					empty[field] = ""
					r.refused(t, field+" empty", x.send(t, r, x.doer.token, empty), field)
				}
				if r.kind == oauth {
					for _, field := range fields {
						r.refused(t, field+" twice", raw("application/x-www-form-urlencoded", field+"=a&"+field+"=b"), field)
					}
					r.refused(t, "a form with a bad escape", raw("application/x-www-form-urlencoded", fields[0]+"=%zz"), "body")
					return
				}
				for _, field := range fields {
					for _, bad := range []string{`1`, `-1.5e300`, `true`, `[]`, `["x"]`, `{}`, `{"$gt":""}`, `{"` + field + `":"x"}`} {
						r.refused(t, field+" as "+bad, raw("application/json", x.withRaw(r, without(field), field, bad)), field)
					}
					for what, bad := range map[string]string{
						"invalid UTF-8": "\"a\xff\"", "overlong UTF-8": "\"\xc0\xaf\"", "a lone surrogate": `"\ud800"`, "a surrogate in UTF-8": "\"\xed\xa0\x80\"",
						"a raw control character": "\"a\x01\"", "a raw newline": "\"a\n\"", "a bad escape": `"\x41"`, "no quotes": `abc`, "single quotes": `'abc'`,
						"a number too large": `1e999`,
						"nesting of 20,000":  strings.Repeat("[", 20000), "nested objects": strings.Repeat(`{"a":`, 9000),
					} {
						a := raw("application/json", x.withRaw(r, without(field), field, bad))
						r.refused(t, field+" as "+what, a, field)
						if len(a.body) > 2000 {
							t.Errorf("%s %s, %s as %s: an answer of %d bytes", r.method, r.path, field, what, len(a.body))
						}
					}
					r.refused(t, field+" twice", raw("application/json", fmt.Sprintf(`{%q:"one value",%q:"another value"}`, field, field)), field)
					capital := strings.ToUpper(field[:1]) + field[1:]
					r.refused(t, "field "+capital, raw("application/json", fmt.Sprintf(`{%q:"some value"}`, capital)), capital)
					body := without(field)
					null := raw("application/json", x.withRaw(r, body, field, "null"))
					if slices.Contains(required, field) {
						r.refused(t, field+" as null", null, field)
					} else if name, ok := body["username"].(string); ok && null.status < 300 {
						delete(made, name) // null is no value, so this was good input
					}
				}
				for _, extra := range []string{"nonsense", "__proto__", "", "a/b~c"} {
					body := without("")
					body[extra] = "x"
					want := extra
					if extra == "" || extra == "a/b~c" { // no name that anything has
						want = "body"
					}
					r.refused(t, "field "+extra, x.send(t, r, x.doer.token, body), want)
				}
				for what, bad := range map[string]string{
					"two documents": `{} {}`, "trailing data": `{}x`, "a comma too many": `{"a":"b",}`, "a comment": `{} // x`, "a byte order mark": "\ufeff{}",
					"UTF-16": "{\x00}\x00", "a list": `[]`, "a string": `"x"`, "null": `null`, "a number": `0`, "an open brace": `{`, "NaN": `NaN`, "a NUL": "\x00",
					"nesting": strings.Repeat("[", 60<<10), "one long word": strings.Repeat("x", 60<<10),
				} {
					r.refused(t, what, raw("application/json", bad), "*")
				}
				if r.kind == classic {
					form := "application/x-www-form-urlencoded"
					r.refused(t, "a form with a bad escape", raw(form, fields[0]+"=%zz"), "body")
					r.refused(t, "a form with an unknown field", raw(form, "role=admin"), "role")
					for _, field := range fields {
						r.refused(t, field+" twice in a form", raw(form, field+"=a&"+field+"=b"), field)
						r.refused(t, field+" in a form in bad UTF-8", raw(form, field+"=a%ff"), field)
					}
				}
			})
			inParallel(slices.Collect(maps.Keys(made)), func(name string) {
				s.call(t, "POST", "/loginUser", jsonBody(shape{"username": name, "password": password})).problem(t, true, 401, "user_not_found")
			})
			t.Logf("%d names, none of them taken", len(made))
		})
	}, "CLIENTS_FILE="+path)
}

// withRaw is the body with one field of raw JSON, which may be none.
func (x *target) withRaw(_ route, body map[string]any, field, raw string) string {
	delete(body, field)
	data, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	rest := strings.TrimPrefix(string(data), "{")
	if rest != "}" {
		rest = "," + rest
	}
	return fmt.Sprintf(`{%q:%s%s`, field, raw, rest)
}

// Null is no value: where a field may be left out it changes nothing.
func TestNullIsNoValue(t *testing.T) {
	s := startDev(t, t.TempDir())
	p := s.register(t)
	s.call(t, "PATCH", "/v1/users/me", bearerOf(p.token), jsonBody(shape{"first_name": "Ada", "last_name": "King"})).want(t, 200)
	null := jsonBody(shape{"first_name": nil, "last_name": nil, "email": nil})
	want := userShape(p, false)
	want["first_name"], want["last_name"] = "Ada", "King"
	s.call(t, "PATCH", "/v1/users/me", bearerOf(p.token), null).is(t, 200, want)
	s.call(t, "PUT", "/updateUser", bearerOf(p.token), jsonBody(shape{"username": p.username, "first_name": nil, "email": nil})).want(t, 200)
	s.call(t, "GET", "/v1/users/me", bearerOf(p.token)).is(t, 200, want)
	want["first_name"] = ""
	s.call(t, "PATCH", "/v1/users/me", bearerOf(p.token), jsonBody(shape{"first_name": ""})).is(t, 200, want)
}

// ---- too much, and of the wrong kind ---------------------------------------

func TestTooMuch(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		shownBadInput(t, s, client, func(t *testing.T, x *target) {
			eachBodyRoute(func(r route, fields, _ []string) {
				contentType, fill := "application/json", " "
				if r.kind == oauth {
					contentType, fill = "application/x-www-form-urlencoded", "&"
				}
				sizes := []int{2 << 20, 64<<10 + 1}
				for _, size := range sizes {
					body := []byte(strings.Repeat(fill, size))
					for what, opt := range map[string]option{
						"": rawBody(contentType, body),
						" in chunks": func(req *http.Request) {
							rawBody(contentType, body)(req)
							req.ContentLength = -1
						},
					} {
						a := x.call(t, r.method, r.path, opt, r.auth(x.doer.token, client))
						if a.status != http.StatusRequestEntityTooLarge {
							t.Errorf("%s %s, %d bytes%s: status %d", r.method, r.path, size, what, a.status)
						}
					}
				}
				// The last size that is read is refused for what is in it.
				just := []byte(strings.Repeat(fill, 64<<10))
				if a := x.call(t, r.method, r.path, rawBody(contentType, just), r.auth(x.doer.token, client)); a.status != 400 && r.method != "PATCH" {
					t.Errorf("%s %s, 64 KiB: status %d", r.method, r.path, a.status)
				}
				if r.kind != oauth {
					long := x.withRaw(r, x.good(r, x.doer), fields[0], `"`+strings.Repeat("x", 60<<10)+`"`)
					a := x.call(t, r.method, r.path, rawBody("application/json", []byte(long)), r.auth(x.doer.token, client))
					if a.status < 400 || a.status > 499 || len(a.body) > 2000 {
						t.Errorf("%s %s, %s of 60 KB: status %d, %d bytes", r.method, r.path, fields[0], a.status, len(a.body))
					}
				}
			})
			for _, r := range routes {
				a := x.call(t, r.method, r.at("x"), header("X-Long", strings.Repeat("x", 25<<10)), r.auth(x.doer.token, client))
				if a.status != http.StatusRequestHeaderFieldsTooLarge {
					t.Errorf("%s %s, a header of 25 KB: status %d", r.method, r.path, a.status)
				}
			}
			x.call(t, "GET", "/findUser?username="+strings.Repeat("x", 25<<10), bearerOf(x.doer.token)).want(t, 431)
			x.call(t, "GET", "/findUser?username="+strings.Repeat("x", 12<<10), bearerOf(x.doer.token)).want(t, 403)
			x.call(t, "GET", "/user/logins/delete/"+strings.Repeat("x", 12<<10), bearerOf(x.doer.token)).want(t, 400)
		})
	}, "CLIENTS_FILE="+path)
}

func TestWrongContentType(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		shownBadInput(t, s, client, func(t *testing.T, x *target) {
			eachBodyRoute(func(r route, fields, _ []string) {
				types := []string{
					"", "text/plain", "text/html", "application/xml", "application/ld+json", "application/json-patch+json", "multipart/form-data; boundary=x",
					"application/octet-stream", "json", "application/", ";", "application/json; charset=latin1", "application/json; charset=utf-16",
					"application/json; charset", "application/json, text/plain", `application/json; x="`,
				}
				body := []byte(`{"` + fields[0] + `":"x"}`)
				switch r.kind {
				case oauth:
					types = append(types, "application/json")
				case v1:
					types = append(types, "application/x-www-form-urlencoded")
				}
				for _, contentType := range types {
					a := x.call(t, r.method, r.path, rawBody(contentType, body), r.auth(x.doer.token, client))
					if a.status != http.StatusUnsupportedMediaType {
						t.Errorf("%s %s, Content-Type %q: status %d: %s", r.method, r.path, contentType, a.status, a.body)
					}
				}
				if r.kind == oauth {
					return
				}
				two := func(req *http.Request) {
					rawBody("application/json", body)(req)
					req.Header["Content-Type"] = []string{"application/json", "text/plain"}
				}
				if a := x.call(t, r.method, r.path, two, r.auth(x.doer.token, client)); a.status != 415 {
					t.Errorf("%s %s, two Content-Types: status %d", r.method, r.path, a.status)
				}
				for _, contentType := range []string{"application/json", "APPLICATION/JSON", "application/json; charset=UTF-8", `application/json;charset="utf-8"`} {
					a := x.call(t, r.method, r.path, rawBody(contentType, []byte(`{"nonsense":"x"}`)), r.auth(x.doer.token, client))
					r.refused(t, "Content-Type "+contentType, a, "nonsense")
				}
			})
		})
	}, "CLIENTS_FILE="+path)
}

// ---- naughty strings, everywhere --------------------------------------------

func naughtyStrings(t *testing.T) []string {
	t.Helper()
	var list []string
	if err := json.Unmarshal(vector(t, "blns/blns.json"), &list); err != nil {
		t.Fatal(err)
	}
	return append(list, nastiest...)
}

// nastiest are those that a database or a header may choke on.
var nastiest = []string{
	"", "\x00", "a\x00b", "NULL", "' OR 1=1 -- 1", "%00%s%n", "\u202eevil", "a\u0300\u0301\u0302", "👩‍👩‍👧‍👦", "\ufeff", "\ufffd", "ﬀ", "İ", "ſ",
	"line\r\nSet-Cookie: a=b", "\x1b[31mred\x1b[0m", strings.Repeat("A", 300), strings.Repeat("é", 600), strings.Repeat("/../", 50), `{"$ne":null}`, `\u0000`,
}

func TestNaughtyStrings(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		list := nastiest
		if s.prefix == "" { // dev
			list = naughtyStrings(t)
		}
		slices.Sort(list)
		list = slices.Compact(list)
		for name, f := range map[string]func(*testing.T, *target, []string){
			"in fields": naughtyFields, "in queries": naughtyQueries, "in paths": naughtyPaths, "in headers": naughtyHeaders,
		} {
			t.Run(name, func(t *testing.T) {
				shownBadInput(t, s, client, func(t *testing.T, x *target) { f(t, x, slices.Clone(list)) })
			})
		}
	}, "CLIENTS_FILE="+path, "TRUSTED_PROXIES=127.0.0.1/32")
}

func naughtyFields(t *testing.T, x *target, list []string) {
	type try struct {
		r            route
		field, value string
	}
	// Every field gets its share of the strings, so that each string comes to some
	// fields and each field sees some of every sort; in dev, where a hash is cheap,
	// every field also gets all of the nastiest.
	shares, dev := 16, x.prefix == ""
	if !dev {
		shares = 4
	}
	var tries []try
	field := 0
	eachBodyRoute(func(r route, fields, _ []string) {
		for _, name := range fields {
			for i, value := range list {
				if dev && slices.Contains(nastiest, value) || i%shares == field%shares {
					tries = append(tries, try{r, name, value})
				}
			}
			field++
		}
	})
	inParallel(tries, func(c try) {
		body := x.good(c.r, x.doer)
		body[c.field] = c.value
		a := x.send(t, c.r, x.doer.token, body)
		if a.status >= 500 || a.status < 200 || a.status >= 300 && a.status < 400 {
			t.Errorf("%s %s, %s is %q: status %d: %s", c.r.method, c.r.path, c.field, c.value, a.status, a.body)
		}
		if !utf8.Valid(a.body) {
			t.Errorf("%s %s, %s is %q: an answer that is no UTF-8", c.r.method, c.r.path, c.field, c.value)
		}
		if a.status == 200 && c.r.method == "PATCH" && strings.HasSuffix(c.field, "_name") {
			if got := a.text(t, c.field); got != c.value {
				t.Errorf("%s is %q, sent as %q", c.field, got, c.value)
			}
		}
	})
}

func naughtyQueries(t *testing.T, x *target, list []string) {
	inParallel(list, func(value string) {
		for _, r := range routes {
			if r.path == "/v1/logins" {
				continue // reads its query as /v1/sessions does
			}
			params, _ := names(r.params)
			for _, param := range params {
				a := x.call(t, r.method, r.path+"?"+param+"="+url.QueryEscape(value), bearerOf(x.doer.token))
				small := param == "limit" && len(value) < 4 && a.status == 200 // 1, 100: a number after all
				if (a.status < 400 || a.status > 499) && !small {
					t.Errorf("%s %s?%s=%q: status %d: %s", r.method, r.path, param, value, a.status, a.body)
				}
			}
		}
		a := x.call(t, "DELETE", "/v1/sessions?"+url.QueryEscape(value)+"=current", bearerOf(x.doer.token))
		if a.status != 400 {
			t.Errorf("DELETE /v1/sessions?%q: status %d: %s", value, a.status, a.body)
		}
	})
	for _, raw := range []string{"username=%", "username=%zz", "username=a;b", "username=%ff%fe", "username=a&username=b", "%ff=a", "username", "&&&", "=&="} {
		a := x.call(t, "GET", "/findUser", bearerOf(x.doer.token), func(r *http.Request) { r.URL.RawQuery = raw })
		a.want(t, 400)
	}
}

func naughtyPaths(t *testing.T, x *target, list []string) {
	inParallel(list, func(value string) {
		for _, start := range []string{"GET /user/logins/delete/", "DELETE /v1/sessions/", "GET /", "GET /user/logins/delete/all/", "DELETE /v1/"} {
			method, path, _ := strings.Cut(start, " ")
			a := x.call(t, method, path+url.PathEscape(value), bearerOf(x.doer.token))
			if a.status < 400 || a.status > 499 {
				t.Errorf("%s%q: status %d: %s", start, value, a.status, a.body)
			}
		}
	})
	for _, target := range []string{"/%00", "/%ff", "/%2e%2e/%2e%2e/etc/passwd", "//evil.example/", "/.", "/user/logins/delete/..%2f..%2fdeletes%2fall", "/v1/sessions/%63urrent%00"} {
		for _, method := range []string{"GET", "DELETE"} {
			if status, _ := x.raw(t, method+" "+target+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+x.doer.token+"\r\nConnection: close\r\n\r\n"); status < 400 || status > 499 {
				t.Errorf("%s %s: status %d", method, target, status)
			}
		}
	}
}

// raw sends bytes that a client library would not, and reads the first answer.
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
		t.Errorf("no answer to %.200q: %v", request, err)
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
	signIn := fmt.Sprintf(`{"login":%q,"password":%q}`, x.doer.username, password)
	if x.prefix == "" {
		list = append(list, "\xff\xfe\xfd", "caf\xe9", "a\x80b", "\t", "tab\there")
	}
	signsIn := map[string]bool{} // each costs a hash
	for _, value := range append(every(list, 4), nastiest...) {
		signsIn[value] = true
	}
	inParallel(list, func(value string) {
		plain := !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
		post := "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n" +
			fmt.Sprintf("Content-Length: %d\r\n", len(signIn))
		named := func(name string) string { return name + ": " + value + "\r\n" }
		if signsIn[value] {
			status, body := x.raw(t, post+named("User-Agent")+named("X-Forwarded-For")+named("X-Request-Id")+named("Forwarded")+named("Cookie")+named("Accept")+"\r\n"+signIn)
			if plain && status != 201 || status >= 500 {
				t.Errorf("signing in with the headers %q: status %d: %s", value, status, body)
			}
		}
		get := "GET /v1/sessions/current HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
		for _, headers := range []string{
			named("Authorization"), "Authorization: Bearer " + value + "\r\n", named("Authorization") + "Authorization: Bearer " + x.doer.token + "\r\n",
		} {
			if status, body := x.raw(t, get+headers+"\r\n"); plain && status != 401 || status >= 500 || status == 200 {
				t.Errorf("with %q: status %d: %s", headers, status, body)
			}
		}
		status, body := x.raw(t, "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+named("Content-Type")+"Content-Length: 2\r\n\r\n{}")
		if plain && status != 415 || status >= 500 || status < 400 {
			t.Errorf("Content-Type %q: status %d: %s", value, status, body)
		}
	})
	for what, request := range map[string]string{
		"no Host":          "GET /livez HTTP/1.1\r\n\r\n",
		"two Hosts":        "GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"two lengths":      "POST /loginUser HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"a negative one":   "POST /loginUser HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
		"a strange coding": "POST /loginUser HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n{}",
		"a bad chunk":      "POST /loginUser HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		"a folded header":  "GET /livez HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
		"a bad version":    "GET /livez HTTP/9.9\r\nHost: x\r\n\r\n",
		"garbage":          "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"a space in a URL": "GET /find User HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		if status, body := x.raw(t, request); status < 400 || status >= 500 && status != 501 && status != 505 {
			t.Errorf("%s: status %d: %s", what, status, body)
		}
	}
}

// The list is the same in base64, which keeps what JSON cannot.
func TestNaughtyStringsAreWhole(t *testing.T) {
	var encoded []string
	if err := json.Unmarshal(vector(t, "blns/blns.base64.json"), &encoded); err != nil {
		t.Fatal(err)
	}
	s := startDev(t, t.TempDir())
	shownBadInput(t, s, nil, func(t *testing.T, x *target) {
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
				a := s.call(t, "PUT", "/updateUser", rawBody(contentType, []byte(body)), bearerOf(x.doer.token))
				if a.status != 400 && a.status != 403 {
					t.Errorf("%q as %s: status %d: %s", data, contentType, a.status, a.body)
				}
			}
		})
	})
}
