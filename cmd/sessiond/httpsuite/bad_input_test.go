package httpsuite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// vectors is the directory of public test vectors. It is not part of this repository.
const vectors = "../../../../shared/vectors/"

// vector reads a file of public test vectors. It skips the test if the file is missing.
func vector(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(vectors + name)
	if os.IsNotExist(err) {
		t.Skipf("NOT TESTED against the vectors: %s is missing", vectors+name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// target is a service that receives bad input. The bad requests carry the access token of the user
// in the field `sender`. They must not change anything for the user in the field `bystander`.
type target struct {
	*service
	sender, bystander person
	client            option
	before            string
}

// withBadInput runs f, which sends bad input to a service. It fails the test if the input changed
// the data of a user who sent no bad input, caused an error in the log, or stopped the process.
func withBadInput(t *testing.T, s *service, client option, f func(t *testing.T, x *target)) {
	t.Helper()
	x := &target{service: s, sender: s.register(t), bystander: s.register(t), client: client}
	x.before = x.bystanderView(t)
	f(t, x)
	if after := x.bystanderView(t); after != x.before {
		t.Errorf("bad input changed the bystander:\n%s\nbefore:\n%s", after, x.before)
	}
	s.login(t, x.bystander)
	s.call(t, "GET", "/livez").want(t, 200)
	s.call(t, "GET", "/readyz").want(t, 200)
	for line := range strings.Lines(s.logged(t)) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "panic") {
			t.Errorf("bad input caused an error in the log: %s", line)
		}
	}
}

// bystanderView returns the profile, the sessions and the login history of the user in the field
// `bystander`, as the API shows them to that user.
func (x *target) bystanderView(t *testing.T) string {
	t.Helper()
	me := x.call(t, "GET", "/v1/users/me", bearer(x.bystander.token)).want(t, 200)
	sessions := x.call(t, "GET", "/v1/sessions", bearer(x.bystander.token)).want(t, 200)
	logins := x.call(t, "GET", "/v1/logins", bearer(x.bystander.token)).want(t, 200)
	return string(me.body) + "\n" + string(sessions.body) + "\n" + string(logins.body)
}

// eachBodyRoute calls f for every route that accepts a request body, except those whose body is
// optional: a request without any field would succeed and end the sessions of the sender.
func eachBodyRoute(f func(r route, fields, required []string)) {
	for _, r := range routes {
		if r.fields != "" && !r.bodyIsOptional() && r.kind != admin { // see TestAdmin_RefusesBadInput
			fields, required := names(r.fields)
			f(r, fields, required)
		}
	}
}

// validBody returns a request body with valid values for all required fields of a route. Each
// registration gets a new username and email address.
func (x *target) validBody(r route, p person) map[string]any {
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
		body["username"] = newName()
		body["email"] = newName() + "@example.com"
	}
	return body
}

// send sends a request body in the encoding that the route accepts: a form or JSON.
func (x *target) send(t *testing.T, r route, token string, body map[string]any) response {
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

// wantBadRequest fails the test unless the response is a 400 with errors for exactly these fields.
// "*" stands for any fields.
func (r *route) wantBadRequest(t *testing.T, what string, a response, fields ...string) {
	t.Helper()
	if a.status != http.StatusBadRequest {
		t.Errorf("%s %s with %s: status %d, want 400: %.200s", r.method, r.path, what, a.status, a.body)
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
		t.Errorf("%s %s with %s: %s names the fields %q, want %q", r.method, r.path, what, p.Code, named, fields)
	}
}

// inParallel calls f for each item. It uses four goroutines.
func inParallel[T any](items []T, f func(T)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(items); i = int(next.Add(1)) - 1 {
				f(items[i])
			}
		})
	}
	wg.Wait()
}

type suiteFile struct {
	index int
	name  string
	data  []byte
}

func jsonSuite(t *testing.T) []suiteFile {
	t.Helper()
	paths, err := filepath.Glob(vectors + "json_test_suite/test_parsing/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Skipf("NOT TESTED against the vectors: %sjson_test_suite is missing", vectors)
	}
	files := make([]suiteFile, len(paths))
	for i, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = suiteFile{i, filepath.Base(path), data}
	}
	return files
}

// JSONTestSuite is a public collection of valid and invalid JSON files. Every route refuses the
// invalid files, and also the valid files, because no file has the fields of a request.
func TestRequestBody_EveryRouteRefusesFilesOfJSONTestSuite(t *testing.T) {
	files := jsonSuite(t)
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		withBadInput(t, s, client, func(t *testing.T, x *target) {
			// All routes decode JSON with the same code. To save time, each route therefore gets only
			// every 4th file. For the same reason, each route of 'sessiond serve', which runs the same
			// code as 'sessiond dev', gets only every 20th file. SESSIOND_TEST_LONG=1 sends every file to
			// every route.
			step := 4
			if s.prefix != "" {
				step = 20
			}
			if isLong() {
				step = 1
			}
			inParallel(files, func(f suiteFile) {
				n := f.index
				eachBodyRoute(func(r route, _, _ []string) {
					if n++; n%step != 0 {
						return
					}
					contentType, data := "application/json", f.data
					if r.kind == oauth {
						contentType = "application/x-www-form-urlencoded"
					}
					a := x.call(t, r.method, r.path, rawBody(contentType, data), r.auth(x.sender.token, client))
					if empty := bytes.Equal(bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff"))), []byte("{}")); r.method == "PATCH" && empty {
						a.want(t, 200) // a PATCH with an empty object is valid and changes nothing
						return
					}
					if len(data) > 64<<10 {
						a.want(t, 413)
						return
					}
					r.wantBadRequest(t, f.name, a, "*")
					var value any
					if err := json.Unmarshal(data, &value); r.kind != oauth && (err != nil || !isStringOrNull(value)) {
						fields, _ := names(r.fields)
						nested := fmt.Sprintf(`{%q:%s}`, fields[0], data)
						r.wantBadRequest(t, fields[0]+" of "+f.name, x.call(t, r.method, r.path, rawBody(contentType, []byte(nested)), r.auth(x.sender.token, client)), "*")
					}
				})
			})
		})
	}, "CLIENTS_FILE="+path)
}

// isStringOrNull reports whether a JSON value has a type that fields of a request accept.
func isStringOrNull(v any) bool {
	_, ok := v.(string)
	return ok || v == nil
}

// every returns every nth item of a list.
func every[T any](list []T, n int) []T {
	var out []T
	for i := 0; i < len(list); i += n {
		out = append(out, list[i])
	}
	return out
}

func TestRequestBody_EveryRouteRefusesInvalidFields_ASVS_V1_5_2_V2_2_1_V2_2_2_V15_3_5_V15_3_7(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		withBadInput(t, s, client, func(t *testing.T, x *target) {
			refused := map[string]bool{} // usernames that occurred only in refused registrations
			eachBodyRoute(func(r route, fields, required []string) {
				needed := required
				if s.prefix != "" && !isLong() { // one field is enough for 'sessiond serve', which runs the same code as 'sessiond dev'
					fields, required = fields[:1], required[:min(1, len(required))]
				}
				raw := func(contentType, body string) response {
					return x.call(t, r.method, r.path, rawBody(contentType, []byte(body)), r.auth(x.sender.token, client))
				}
				without := func(field string) map[string]any {
					body := x.validBody(r, x.sender)
					if name, ok := body["username"].(string); ok && name != x.sender.username {
						refused[name] = true
					}
					delete(body, field)
					return body
				}
				for _, field := range required {
					r.wantBadRequest(t, "no "+field, x.send(t, r, x.sender.token, without(field)), field)
					empty := without(field)
					empty[field] = ""
					r.wantBadRequest(t, "an empty "+field, x.send(t, r, x.sender.token, empty), field)
				}
				if r.kind == oauth {
					for _, field := range fields {
						r.wantBadRequest(t, field+" twice", raw("application/x-www-form-urlencoded", field+"=a&"+field+"=b"), field)
					}
					r.wantBadRequest(t, "a form with a bad escape", raw("application/x-www-form-urlencoded", fields[0]+"=%zz"), "body")
					return
				}
				for _, field := range fields {
					for _, bad := range []string{`1`, `-1.5e300`, `true`, `[]`, `["x"]`, `{}`, `{"$gt":""}`, `{"` + field + `":"x"}`} {
						r.wantBadRequest(t, field+" as "+bad, raw("application/json", x.withRaw(r, without(field), field, bad)), field)
					}
					for what, bad := range map[string]string{
						"invalid UTF-8": "\"a\xff\"", "overlong UTF-8": "\"\xc0\xaf\"", "a lone surrogate": `"\ud800"`, "a surrogate in UTF-8": "\"\xed\xa0\x80\"",
						"a raw control character": "\"a\x01\"", "a raw newline": "\"a\n\"", "a bad escape": `"\x41"`, "no quotes": `abc`, "single quotes": `'abc'`,
						"a huge number":     `1e999`,
						"nesting of 20,000": strings.Repeat("[", 20000), "nested objects": strings.Repeat(`{"a":`, 9000),
					} {
						a := raw("application/json", x.withRaw(r, without(field), field, bad))
						r.wantBadRequest(t, field+" as "+what, a, field)
						if len(a.body) > 2000 {
							t.Errorf("%s %s with %s as %s: response of %d bytes, want at most 2000", r.method, r.path, field, what, len(a.body))
						}
					}
					r.wantBadRequest(t, field+" twice", raw("application/json", fmt.Sprintf(`{%q:"one value",%q:"another value"}`, field, field)), field)
					if capital := strings.ToUpper(field[:1]) + field[1:]; r.kind == v1 {
						r.wantBadRequest(t, "field "+capital, raw("application/json", fmt.Sprintf(`{%q:"some value"}`, capital)), capital)
					} else {
						r.wantBadRequest(t, "only the field "+capital, raw("application/json", fmt.Sprintf(`{%q:"some value"}`, capital)), needed...)
					}
					body := without(field)
					null := raw("application/json", x.withRaw(r, body, field, "null"))
					if slices.Contains(required, field) {
						r.wantBadRequest(t, field+" as null", null, field)
					} else if name, ok := body["username"].(string); ok && null.status < 300 {
						delete(refused, name) // null stands for an absent field, so this registration was valid
					}
				}
				for _, extra := range []string{"nonsense", "__proto__", "", "a/b~c"} {
					if r.kind == classic { // these routes ignore unknown fields
						break
					}
					body := without("")
					body[extra] = "x"
					want := extra
					if extra == "" || extra == "a/b~c" { // the error says body instead of a name that is empty or has special characters
						want = "body"
					}
					r.wantBadRequest(t, "field "+extra, x.send(t, r, x.sender.token, body), want)
				}
				for what, bad := range map[string]string{
					"two documents": `{} {}`, "trailing data": `{}x`, "a trailing comma": `{"a":"b",}`, "a comment": `{} // x`, "a byte order mark alone": "\ufeff", "two byte order marks": "\ufeff\ufeff{}",
					"UTF-16": "{\x00}\x00", "a list": `[]`, "a string": `"x"`, "null": `null`, "a number": `0`, "an open brace": `{`, "NaN": `NaN`, "a NUL": "\x00",
					"nesting": strings.Repeat("[", 60<<10), "one long word": strings.Repeat("x", 60<<10),
				} {
					r.wantBadRequest(t, what, raw("application/json", bad), "*")
				}
				if r.kind == classic {
					form := "application/x-www-form-urlencoded"
					r.wantBadRequest(t, "a form with a bad escape", raw(form, fields[0]+"=%zz"), "body")
					r.wantBadRequest(t, "a form with only an unknown field", raw(form, "role=admin"), needed...)
					for _, field := range fields {
						r.wantBadRequest(t, field+" twice in a form", raw(form, field+"=a&"+field+"=b"), field)
						r.wantBadRequest(t, field+" in a form in bad UTF-8", raw(form, field+"=a%ff"), field)
					}
				}
			})
			checked := slices.Collect(maps.Keys(refused))
			if s.prefix != "" && !isLong() { // 'sessiond serve' checks only every 10th username, because its logins are slow
				checked = every(checked, 10)
			}
			inParallel(checked, func(name string) {
				s.call(t, "POST", "/loginUser", credentials(name, password)).problem(t, true, 401, "user_not_found")
			})
			t.Logf("%d of %d refused registrations were checked and created no user", len(checked), len(refused))
		})
	}, "CLIENTS_FILE="+path)
}

// withRaw returns the body as JSON, in which the value of one field is the text `raw`. That text
// need not be valid JSON.
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

func TestUpdateUser_NullLeavesFieldUnchanged(t *testing.T) {
	s := startDev(t, t.TempDir())
	p := s.register(t)
	s.call(t, "PATCH", "/v1/users/me", bearer(p.token), jsonBody(shape{"first_name": "Ada", "last_name": "King"})).want(t, 200)
	null := jsonBody(shape{"first_name": nil, "last_name": nil, "email": nil})
	want := userShape(p, false)
	want["first_name"], want["last_name"] = "Ada", "King"
	s.call(t, "PATCH", "/v1/users/me", bearer(p.token), null).is(t, 200, want)
	s.call(t, "PUT", "/updateUser", bearer(p.token), jsonBody(shape{"username": p.username, "first_name": nil, "email": nil})).want(t, 200)
	s.call(t, "GET", "/v1/users/me", bearer(p.token)).is(t, 200, want)
	want["first_name"] = ""
	s.call(t, "PATCH", "/v1/users/me", bearer(p.token), jsonBody(shape{"first_name": ""})).is(t, 200, want)
}

func TestRequest_TooLargeBodyGets413AndTooLargeHeaderGets431(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		withBadInput(t, s, client, func(t *testing.T, x *target) {
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
						a := x.call(t, r.method, r.path, opt, r.auth(x.sender.token, client))
						if a.status != http.StatusRequestEntityTooLarge {
							t.Errorf("%s %s with %d bytes%s: status %d, want 413", r.method, r.path, size, what, a.status)
						}
					}
				}
				// A body of exactly 64 KiB is not too large. The service must read it and return 400 for
				// its content.
				largest := []byte(strings.Repeat(fill, 64<<10))
				if a := x.call(t, r.method, r.path, rawBody(contentType, largest), r.auth(x.sender.token, client)); a.status != 400 && r.method != "PATCH" {
					t.Errorf("%s %s with 64 KiB: status %d, want 400", r.method, r.path, a.status)
				}
				if r.kind != oauth {
					long := x.withRaw(r, x.validBody(r, x.sender), fields[0], `"`+strings.Repeat("x", 60<<10)+`"`)
					a := x.call(t, r.method, r.path, rawBody("application/json", []byte(long)), r.auth(x.sender.token, client))
					if a.status < 400 || a.status > 499 || len(a.body) > 2000 {
						t.Errorf("%s %s with %s of 60 KB: status %d and %d bytes, want 4xx and at most 2000 bytes", r.method, r.path, fields[0], a.status, len(a.body))
					}
				}
			})
			for _, r := range routes {
				a := x.call(t, r.method, r.at("x"), header("X-Long", strings.Repeat("x", 25<<10)), r.auth(x.sender.token, client))
				if a.status != http.StatusRequestHeaderFieldsTooLarge {
					t.Errorf("%s %s with a header of 25 KB: status %d, want 431", r.method, r.path, a.status)
				}
			}
			x.call(t, "GET", "/findUser?username="+strings.Repeat("x", 25<<10), bearer(x.sender.token)).want(t, 431)
			x.call(t, "GET", "/findUser?username="+strings.Repeat("x", 12<<10), bearer(x.sender.token)).want(t, 403)
			x.call(t, "GET", "/user/logins/delete/"+strings.Repeat("x", 12<<10), bearer(x.sender.token)).want(t, 400)
		})
	}, "CLIENTS_FILE="+path)
}

func TestRequestBody_UnsupportedContentTypeGets415_ASVS_V3_5_2(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		withBadInput(t, s, client, func(t *testing.T, x *target) {
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
					a := x.call(t, r.method, r.path, rawBody(contentType, body), r.auth(x.sender.token, client))
					if a.status != http.StatusUnsupportedMediaType {
						t.Errorf("%s %s with Content-Type %q: status %d, want 415: %s", r.method, r.path, contentType, a.status, a.body)
					}
				}
				for _, coding := range []string{"gzip", "br", "deflate", "GZIP, identity"} {
					contentType := map[bool]string{true: "application/x-www-form-urlencoded", false: "application/json"}[r.kind == oauth]
					a := x.call(t, r.method, r.path, rawBody(contentType, body), header("Content-Encoding", coding), r.auth(x.sender.token, client))
					if a.status != http.StatusUnsupportedMediaType || a.header.Get("Accept-Encoding") != "identity" {
						t.Errorf("%s %s with Content-Encoding %s: status %d, want 415: %s", r.method, r.path, coding, a.status, a.body)
					}
				}
				if r.kind == oauth {
					return
				}
				two := func(req *http.Request) {
					rawBody("application/json", body)(req)
					req.Header["Content-Type"] = []string{"application/json", "text/plain"}
				}
				if a := x.call(t, r.method, r.path, two, r.auth(x.sender.token, client)); a.status != 415 {
					t.Errorf("%s %s with two Content-Types: status %d, want 415", r.method, r.path, a.status)
				}
				for _, contentType := range []string{"application/json", "APPLICATION/JSON", "application/json; charset=UTF-8", `application/json;charset="utf-8"`, "application/json; charset=utf8"} {
					for _, mark := range []string{"", "\ufeff"} { // a byte order mark
						a := x.call(t, r.method, r.path, rawBody(contentType, []byte(mark+`{"`+fields[0]+`":1}`)), r.auth(x.sender.token, client))
						r.wantBadRequest(t, "Content-Type "+contentType, a, fields[0])
					}
				}
			})
		})
	}, "CLIENTS_FILE="+path)
}
