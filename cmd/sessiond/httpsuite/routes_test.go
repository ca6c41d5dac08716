package httpsuite

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// route describes a route of the service. A star marks a required field or parameter.
type route struct {
	method, path string
	kind         routeKind
	protected    bool
	fields       string // names of the fields of the request body
	params       string // names of the parameters of the query string
}

type routeKind int

const (
	v1      routeKind = iota // accepts only JSON bodies
	classic                  // for clients older than /v1, also under /api/v1; accepts JSON and form bodies
	oauth                    // accepts only form bodies
	admin                    // for operators; accepts only JSON bodies
)

var routes = []route{
	{"POST", "/registerUser", classic, false, "username* email* password* first_name last_name", ""},
	{"POST", "/loginUser", classic, false, "username* password*", ""},
	{"DELETE", "/logout", classic, true, "", ""},
	{"GET", "/findUser", classic, true, "", "username*"},
	{"PUT", "/updateUser", classic, true, "username* first_name last_name email current_password", ""},
	{"DELETE", "/deleteUser", classic, true, "current_password", "username*"},
	{"POST", "/forgotPassword", classic, false, "email*", ""},
	{"GET", "/reset", classic, false, "", "resetPasswordToken*"},
	{"PUT", "/updatePassword", classic, true, "username* password* current_password", ""},
	{"PUT", "/updatePasswordViaEmail", classic, false, "username* password* resetPasswordToken*", ""},
	{"GET", "/user/logins/show", classic, true, "", ""},
	{"GET", "/user/logins/delete/{login_id}", classic, true, "", ""},
	{"GET", "/user/logins/delete/all/not-current", classic, true, "", ""},
	{"GET", "/user/logins/deletes/all", classic, true, "current_password", ""},

	{"POST", "/v1/users", v1, false, "username* email* password* first_name last_name", ""},
	{"POST", "/v1/users/verify", v1, false, "token* password", ""},
	{"GET", "/v1/users/me", v1, true, "", ""},
	{"PATCH", "/v1/users/me", v1, true, "email first_name last_name", ""},
	{"DELETE", "/v1/users/me", v1, true, "", ""},
	{"POST", "/v1/users/me/email-confirmations", v1, true, "", ""},
	{"GET", "/v1/email-changes/undo", v1, false, "", ""},
	{"POST", "/v1/email-changes/undo", v1, false, "token*", ""},
	{"GET", "/v1/users/me/export", v1, true, "", ""},
	{"PUT", "/v1/users/me/password", v1, true, "current_password* new_password*", ""},
	{"POST", "/v1/sessions", v1, false, "login* password*", ""},
	{"GET", "/v1/sessions", v1, true, "", "limit cursor"},
	{"DELETE", "/v1/sessions", v1, true, "", "except"},
	{"GET", "/v1/sessions/current", v1, true, "", ""},
	{"DELETE", "/v1/sessions/current", v1, true, "", ""},
	{"POST", "/v1/sessions/current/reauthenticate", v1, true, "password*", ""},
	{"DELETE", "/v1/sessions/{id}", v1, true, "", ""},
	{"GET", "/v1/verify", v1, true, "", ""},
	{"GET", "/v1/logins", v1, true, "", "limit cursor"},
	{"POST", "/v1/password-resets", v1, false, "email*", ""},
	{"POST", "/v1/password-resets/check", v1, false, "token*", ""},
	{"POST", "/v1/password-resets/complete", v1, false, "token* password*", ""},

	{"GET", "/v1/admin/users", admin, true, "", "q status role limit cursor"},
	{"POST", "/v1/admin/users", admin, true, "username* email* first_name last_name roles send_invitation reason", ""},
	{"GET", "/v1/admin/users/{id}", admin, true, "", ""},
	{"PATCH", "/v1/admin/users/{id}", admin, true, "first_name last_name roles claims reason", ""},
	{"DELETE", "/v1/admin/users/{id}", admin, true, "", "reason"},
	{"POST", "/v1/admin/users/{id}/suspend", admin, true, "reason*", ""},
	{"POST", "/v1/admin/users/{id}/reinstate", admin, true, "reason", ""},
	{"POST", "/v1/admin/users/{id}/password-reset", admin, true, "reason", ""},
	{"GET", "/v1/admin/users/{id}/sessions", admin, true, "", "limit cursor"},
	{"DELETE", "/v1/admin/users/{id}/sessions", admin, true, "", "reason"},
	{"GET", "/v1/admin/users/{id}/logins", admin, true, "", "limit cursor"},
	{"GET", "/v1/admin/sessions", admin, true, "", "user address user_agent created_after created_before seen_before limit cursor"},
	{"DELETE", "/v1/admin/sessions/{id}", admin, true, "", "reason"},
	{"POST", "/v1/admin/revocations", admin, true, "filter* dry_run reason", ""},
	{"GET", "/v1/admin/revocations/{id}", admin, true, "", ""},
	{"GET", "/v1/admin/events", admin, true, "", "after type user limit"},
	{"GET", "/v1/admin/stats", admin, true, "", ""},

	{"POST", "/oauth/token", oauth, false, "grant_type* refresh_token*", ""},
	{"POST", "/oauth/revoke", oauth, false, "token* token_type_hint", ""},
	{"POST", "/oauth/introspect", oauth, false, "token* token_type_hint", ""},
	{"GET", "/.well-known/jwks.json", v1, false, "", ""},
	{"GET", "/.well-known/sessiond-epochs", v1, false, "", ""},
	{"GET", "/.well-known/oauth-authorization-server", v1, false, "", ""},
	{"GET", "/livez", v1, false, "", ""},
	{"GET", "/readyz", v1, false, "", ""},
	{"GET", "/openapi.json", v1, false, "", ""},
	{"GET", "/docs", v1, false, "", ""},
	{"GET", "/verify", v1, false, "", ""},
}

// everyRoute returns all routes. It returns each classic (pre-/v1) route twice, because that route
// also exists under the prefix /api/v1.
func everyRoute() []route {
	all := slices.Clone(routes)
	for _, r := range routes {
		if r.kind == classic {
			r.path = "/api/v1" + r.path
			all = append(all, r)
		}
	}
	return all
}

// names splits a list such as "username* email" and returns all names and the required names.
func names(text string) (all, required []string) {
	for _, name := range strings.Fields(text) {
		name, star := strings.CutSuffix(name, "*")
		all = append(all, name)
		if star {
			required = append(required, name)
		}
	}
	return all, required
}

// at returns the path of the route with id in place of a parameter such as {login_id}.
func (r *route) at(id string) string {
	return regexp.MustCompile(`\{\w+\}`).ReplaceAllLiteralString(r.path, id)
}

// isSafe reports whether the route only reads. Such a route answers HEAD, too.
func (r *route) isSafe() bool { return r.method == "GET" && !strings.Contains(r.path, "/delete") }

// bodyIsOptional reports whether the route ignores a body that it does not know. It once had none.
func (r *route) bodyIsOptional() bool { return r.method == "GET" || r.method == "DELETE" }

// auth returns the credentials that the route accepts: those of the OAuth client, or the access
// token.
func (r *route) auth(token string, client option) option {
	if r.path == "/oauth/introspect" || r.kind == admin {
		return client
	}
	return bearer(token)
}

// Many tests run for every route in the variable `routes`. If only the OpenAPI document had a
// route, these tests would miss the route.
func TestRoutes_MatchOpenAPI(t *testing.T) {
	s := startDev(t, t.TempDir())
	type media struct {
		Schema struct {
			Ref string `json:"$ref"`
		} `json:"schema"`
	}
	type parameter struct {
		Ref      string `json:"$ref"`
		Name, In string
		Required bool
	}
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any
				Required   []string
			}
			Parameters map[string]parameter
		}
	}
	s.call(t, "GET", "/openapi.json").want(t, 200).into(t, &doc)

	want := map[string]route{}
	for _, r := range routes {
		want[r.method+" "+r.path] = r
	}
	for path, item := range doc.Paths {
		atBoth := strings.Contains(string(item["servers"]), "/api/v1")
		for method, raw := range item {
			if method == "servers" || method == "parameters" {
				continue
			}
			name := strings.ToUpper(method) + " " + path
			r, known := want[name]
			delete(want, name)
			if !known {
				t.Errorf("%s is in the OpenAPI document, but the variable routes lacks it", name)
				continue
			}
			var op struct {
				Security    *[]map[string]any
				Parameters  []parameter
				RequestBody struct{ Content map[string]media }
			}
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			protected := op.Security == nil || slices.ContainsFunc(*op.Security, func(s map[string]any) bool { return s["bearer"] != nil })
			if protected != r.protected || atBoth != (r.kind == classic) {
				t.Errorf("%s: the OpenAPI document says protected: %v, also under /api/v1: %v; the variable routes disagrees", name, protected, atBoth)
			}
			var params []string
			for _, p := range op.Parameters {
				if p.Ref != "" {
					p = doc.Components.Parameters[p.Ref[strings.LastIndexByte(p.Ref, '/')+1:]]
				}
				if p.In == "query" {
					params = append(params, starred(p.Name, p.Required))
				}
			}
			checkNames(t, name+" parameters", r.params, params)
			for kind, m := range op.RequestBody.Content {
				schema := doc.Components.Schemas[m.Schema.Ref[strings.LastIndexByte(m.Schema.Ref, '/')+1:]]
				var fields []string
				for field := range schema.Properties {
					fields = append(fields, starred(field, slices.Contains(schema.Required, field)))
				}
				checkNames(t, name+" fields", r.fields, fields)
				if isForm := strings.Contains(kind, "form"); isForm && r.kind == v1 || !isForm && r.kind == oauth {
					t.Errorf("%s: the OpenAPI document has a body of type %s, which the route does not accept", name, kind)
				}
			}
			if hasBody := len(op.RequestBody.Content) > 0; hasBody != (r.fields != "") {
				t.Errorf("%s: the OpenAPI document has a request body: %v; the variable routes disagrees", name, hasBody)
			}
		}
	}
	for name := range want {
		t.Errorf("%s is in the variable routes, but the OpenAPI document lacks it", name)
	}
}

func starred(name string, required bool) string {
	if required {
		return name + "*"
	}
	return name
}

func checkNames(t *testing.T, what, want string, got []string) {
	t.Helper()
	a, b := strings.Fields(want), slices.Clone(got)
	slices.Sort(a)
	slices.Sort(b)
	if !slices.Equal(a, b) {
		t.Errorf("%s: the OpenAPI document has %v, the variable routes has %v", what, b, a)
	}
}
