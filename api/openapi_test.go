package api

import (
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/session/issuer"
)

func loadOpenAPI(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// eachOperation calls f in a subtest for every operation of openapi.json.
func eachOperation(t *testing.T, f func(t *testing.T, method, path string, item *openapi3.PathItem, op *openapi3.Operation)) {
	t.Helper()
	for path, item := range loadOpenAPI(t).Paths.Map() {
		for method, op := range item.Operations() {
			t.Run(method+" "+path, func(t *testing.T) { f(t, method, path, item, op) })
		}
	}
}

// The test also checks that each example in openapi.json fits its schema.
func TestOpenAPI_IsValid(t *testing.T) {
	doc := loadOpenAPI(t)
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("openapi.json declares OpenAPI %q, want 3.1 or later", doc.OpenAPI)
	}
	if err := doc.Validate(t.Context(), openapi3.EnableExamplesValidation(), openapi3.EnableSchemaPatternValidation()); err != nil {
		t.Error(err)
	}
}

func TestOpenAPI_DefinesExactlyTheComponentsThatItUses(t *testing.T) {
	used := make(map[string]bool)
	dec := jsontext.NewDecoder(strings.NewReader(string(openAPI)))
	for {
		tok, err := dec.ReadToken()
		if err != nil {
			break
		}
		if dec.StackPointer().LastToken() == "$ref" && tok.Kind() == '"' && tok.String() != "$ref" {
			used[tok.String()] = true
		}
	}
	var doc struct {
		Components map[string]map[string]jsontext.Value `json:"components"`
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	defined := make(map[string]bool)
	for kind, components := range doc.Components {
		for name := range components {
			defined["#/components/"+kind+"/"+name] = true
		}
	}
	if len(used) == 0 {
		t.Fatal("openapi.json has no $ref")
	}
	for ref := range used {
		if !defined[ref] {
			t.Errorf("openapi.json refers to %s and does not define it", ref)
		}
	}
	unreferenced := map[string]bool{
		"#/components/securitySchemes/bearer":     true, // operations name this security scheme without a $ref
		"#/components/securitySchemes/client":     true,
		"#/components/responses/MethodNotAllowed": true, // no operation lists the response 405, because 405 means that the operation does not exist
	}
	for ref := range defined {
		if !used[ref] && !unreferenced[ref] {
			t.Errorf("openapi.json defines %s and does not refer to it", ref)
		}
	}
}

func TestOpenAPI_OperationsHaveSummaryAndResponses(t *testing.T) {
	titled := make(map[string]bool) // tag → whether the tag has a title for the page /docs
	for _, tag := range loadOpenAPI(t).Tags {
		titled[tag.Name] = tag.Extensions["x-displayName"] != nil
	}
	ids := make(map[string]bool)
	eachOperation(t, func(t *testing.T, _, _ string, _ *openapi3.PathItem, op *openapi3.Operation) {
		if op.OperationID == "" || ids[op.OperationID] {
			t.Errorf("the operationId %q is missing or not unique", op.OperationID)
		}
		ids[op.OperationID] = true
		if op.Summary == "" {
			t.Error("the operation has no summary")
		}
		if len(op.Tags) != 1 || !titled[op.Tags[0]] {
			t.Errorf("the operation has the tags %q, want one with an x-displayName", op.Tags)
		}
		var good, bad bool
		for status, r := range op.Responses.Map() {
			good = good || status[0] == '2'
			bad = bad || status[0] == '4' || status[0] == '5'
			headers := r.Value.Headers
			switch status {
			case "401":
				if headers["WWW-Authenticate"] == nil {
					t.Error("the response 401 has no WWW-Authenticate")
				}
			case "429", "503":
				if headers["Retry-After"] == nil {
					t.Errorf("the response %s has no Retry-After", status)
				}
			case "204":
				if len(r.Value.Content) > 0 {
					t.Error("the response 204 has a body")
				}
			}
		}
		if !good || !bad {
			t.Errorf("the operation documents a success response: %t, and an error response: %t; want both", good, bad)
		}
		if protected(op) && op.Responses.Value("401") == nil {
			t.Error("the operation needs credentials and has no response 401")
		}
		if op.RequestBody != nil && (op.Responses.Value("413") == nil || op.RequestBody.Value.Required && op.Responses.Value("415") == nil) {
			t.Error("the operation has a request body and lacks the response 413 or 415")
		}
	})
}

func TestOpenAPI_RequestFieldsHaveMaximumLengthOrValue_ASVS_V2_1_1(t *testing.T) {
	eachOperation(t, func(t *testing.T, _, path string, _ *openapi3.PathItem, op *openapi3.Operation) {
		for _, p := range op.Parameters {
			checkBounds(t, p.Value.Name, p.Value.Schema.Value)
		}
		if op.RequestBody == nil {
			return
		}
		for media, content := range op.RequestBody.Value.Content {
			body := content.Schema.Value
			if !body.Type.Is("object") || len(body.Properties) == 0 {
				t.Errorf("%s: the body is not an object with fields", media)
			}
			for name, s := range body.Properties {
				checkBounds(t, name, s.Value)
			}
			// The classic routes and the OAuth endpoints (RFC 6749 section 3.2) ignore unknown fields.
			if closed(body) != strings.HasPrefix(path, "/v1/") {
				t.Errorf("%s: the body forbids unknown fields: %t, want the opposite", media, closed(body))
			}
			for _, name := range body.Required {
				if body.Properties[name] == nil {
					t.Errorf("%s: the required field %q does not exist", media, name)
				}
			}
		}
	})
}

func checkBounds(t *testing.T, name string, s *openapi3.Schema) {
	t.Helper()
	switch {
	case s.Const != nil || len(s.Enum) > 0 || s.Type.Is("boolean"):
	case s.Type.Is("array"):
		if s.MaxItems == nil {
			t.Errorf("%s has no maxItems", name)
		}
		checkBounds(t, name+"[]", s.Items.Value)
	case s.Type.Is("object"): // the whole body is bounded
		for field, property := range s.Properties {
			checkBounds(t, name+"."+field, property.Value)
		}
	case s.Type.Is("string"):
		if s.MaxLength == nil {
			t.Errorf("%s has no maxLength", name)
		}
	case s.Type.Is("integer"):
		if s.Min == nil || s.Max == nil {
			t.Errorf("%s has no minimum or no maximum", name)
		}
	default:
		t.Errorf("%s has no known type", name)
	}
}

func TestOpenAPI_ResponseSchemasForbidUnknownFields_ASVS_V15_3_1(t *testing.T) {
	eachOperation(t, func(t *testing.T, _, path string, _ *openapi3.PathItem, op *openapi3.Operation) {
		for status, r := range op.Responses.Map() {
			for media, content := range r.Value.Content {
				if strings.HasSuffix(media, "json") && path != "/openapi.json" {
					checkClosed(t, status, content.Schema.Value)
				}
			}
		}
	})
}

func checkClosed(t *testing.T, where string, s *openapi3.Schema) {
	t.Helper()
	switch {
	case len(s.OneOf) > 0:
		for _, one := range s.OneOf {
			checkClosed(t, where, one.Value)
		}
	case s.Items != nil:
		checkClosed(t, where+"[]", s.Items.Value)
	case len(s.Properties) > 0:
		if !closed(s) {
			t.Errorf("%s: additionalProperties is not false", where)
		}
		for name, p := range s.Properties {
			checkClosed(t, where+"."+name, p.Value)
		}
	case s.Type == nil && s.Const == nil:
		t.Errorf("%s has no type", where)
	}
}

func closed(s *openapi3.Schema) bool {
	return s.AdditionalProperties.Has != nil && !*s.AdditionalProperties.Has
}

// protected reports whether an operation needs credentials according to openapi.json.
func protected(op *openapi3.Operation) bool { return op.Security == nil || len(*op.Security) > 0 }

func TestOpenAPI_HasNoPasswordHints_ASVS_V6_4_2(t *testing.T) {
	hint := regexp.MustCompile(`(?i)hint|question|answer|maiden|birth|pet_`)
	fields := 0
	for name, schema := range loadOpenAPI(t).Components.Schemas {
		for field := range schema.Value.Properties {
			if fields++; hint.MatchString(field) && field != "token_type_hint" { // RFC 7009
				t.Errorf("the schema %s has the field %s", name, field)
			}
		}
	}
	if fields < 50 {
		t.Errorf("found %d fields, so this test sees too little", fields)
	}
}

func TestOpenAPI_MatchesRoutes_ASVS_V6_3_4_V8_2_1(t *testing.T) {
	// The router does not list /v1/verify, which accepts every method. The document lists only GET.
	routes := map[string]bool{http.MethodGet + " " + verifyPattern: true}
	heads := make(map[string]bool)
	walk := func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if method == http.MethodHead { // the document describes HEAD once, for all routes
			heads[route] = true
		} else {
			routes[method+" "+route] = true
		}
		return nil
	}
	if err := chi.Walk((&API{}).routes(), walk); err != nil {
		t.Fatal(err)
	}
	compareRoutes(t, routes)
	for r := range routes {
		method, path, _ := strings.Cut(r, " ")
		if safe := method == http.MethodGet && !strings.Contains(path, "/delete"); safe && path != verifyPattern && !heads[path] {
			t.Errorf("%s answers GET, and does not answer HEAD", path)
		}
	}
	for path := range heads {
		if strings.Contains(path, "/delete") {
			t.Errorf("%s answers HEAD, although GET changes something", path)
		}
	}
}

// The test knows the answers that follow from the kind of a route. Which of the others a handler can
// give is in the tests of that route.
func TestOpenAPI_ListsNoAnswerThatCannotHappen(t *testing.T) {
	neverFails := []string{"/livez", "/readyz", "/openapi.json", "/docs", "/verify", "/.well-known/oauth-authorization-server", "/.well-known/sessiond-epochs"}
	eachOperation(t, func(t *testing.T, method, path string, item *openapi3.PathItem, op *openapi3.Operation) {
		hasBody, hasInput := op.RequestBody != nil, op.RequestBody != nil || len(op.Parameters)+len(item.Parameters) > 0
		for status, r := range op.Responses.Map() {
			malformed := strings.HasSuffix(r.Ref, "/Malformed") // any request may be malformed, and the classic routes say so
			possible := map[string]bool{
				"304": path == "/.well-known/jwks.json",
				"400": hasInput || malformed,
				"404": protected(op) || hasBody,
				"409": hasBody,
				"413": hasBody,
				"415": hasBody,
				"429": hasInput || path == "/v1/users/me/email-confirmations", // which mails something
				"500": !slices.Contains(neverFails, path),
			}
			if can, listed := possible[status]; listed && !can {
				t.Errorf("%s %s cannot answer with %s", method, path, status)
			}
		}
	})
}

// compareRoutes checks that openapi.json documents exactly the given routes, such as "GET /path". A
// path in openapi.json may list further prefixes, such as /api/v1, as its servers.
func compareRoutes(t *testing.T, routes map[string]bool) {
	t.Helper()
	doc := loadOpenAPI(t)
	documented := make(map[string]bool)
	for path, item := range doc.Paths.Map() {
		servers := item.Servers
		if len(servers) == 0 {
			servers = doc.Servers
		}
		for method := range item.Operations() {
			for _, s := range servers {
				documented[method+" "+strings.TrimSuffix(s.URL, "/")+path] = true
			}
		}
	}
	for _, r := range slices.Sorted(maps.Keys(documented)) {
		if !routes[r] {
			t.Errorf("%s is documented but not served", r)
		}
	}
	for _, r := range slices.Sorted(maps.Keys(routes)) {
		if !documented[r] {
			t.Errorf("%s is served but not documented", r)
		}
	}
}

func TestOpenAPI_RequiresTokenWhereHandlerReturns401_ASVS_V8_2_1(t *testing.T) {
	handler := (&API{Users: &identity.Service{}, Clients: &clients.Registry{}, Log: slog.New(slog.DiscardHandler)}).Handler()
	eachOperation(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, op *openapi3.Operation) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
		if refused := w.Code == http.StatusUnauthorized; refused != protected(op) {
			t.Errorf("a request without credentials gets status %d, but openapi.json says that the route needs credentials: %t", w.Code, protected(op))
		}
		if w.Code < 500 && op.Responses.Status(w.Code) == nil {
			t.Errorf("openapi.json does not document the status %d", w.Code)
		}
	})
}

func TestOpenAPI_HasSameResponseFieldsAsHandlers_ASVS_V15_3_1(t *testing.T) {
	schemas := loadOpenAPI(t).Components.Schemas
	metadata, err := (&API{Sessions: &issuer.Manager{}}).getServerMetadata(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]any{
		"Message":           messageBody{},
		"AuthMessage":       authMessageBody{},
		"SignedIn":          signedInBody{},
		"UserLogin":         userLoginBody{},
		"DeletedUserLogins": deletedUserLoginsBody{},
		"Session":           sessionBody{},
		"Login":             loginBody{},
		"NewSession":        tokenSetBody{RefreshToken: "r", Session: &sessionBody{}},
		"Reauthenticated":   tokenSetBody{Session: &sessionBody{}},
		"TokenSet":          tokenSetBody{RefreshToken: "r"},
		"SessionPage":       list[sessionBody]{},
		"Account":           accountBody{userBody: userBody{}, Claims: jsontext.Value("{}"), Sessions: new(int64)},
		"AccountPage":       list[accountBody]{},
		"OwnedSession":      ownedSessionBody{},
		"Matched":           matchedBody{},
		"Revoked":           revokedBody{},
		"BulkRevocation":    bulkBody{},
		"Event":             jsontext.Value((&audit.Event{}).JSON()),
		"User":              userBody{},
		"ExportedLogin":     exportedLogin{},
		"ExportedEvent":     exportedEvent{},
		"ExportedLink":      exportedLink{},
		"ExportedMail":      exportedMail{},
		"ServerMetadata":    metadata.body,
		"Health":            healthBody{},
		"Readiness":         healthBody{Checks: map[string]string{}},
		"Problem":           Problem{Message: "m", Errors: identity.FieldErrors{{}}},
		"FieldError":        identity.FieldError{},
		"OAuthError":        oauthError{},
	} {
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		written := slices.Sorted(maps.Keys(got))
		documented := slices.Sorted(maps.Keys(schemas[name].Value.Properties))
		if !slices.Equal(written, documented) {
			t.Errorf("%s: openapi.json has the fields %v, and the handler writes %v", name, documented, written)
		}
	}
}

// inputs maps an operationId to its handler, for all handlers that take a body or a query string.
var inputs = map[string]any{
	"registerUser": (*API).registerUser,
	"loginUser":    (*API).loginUser,
	"findUser":     (*API).findUser,
	"updateUser":   (*API).updateUser,
	"deleteUser": func(*API, *request, struct {
		usernameInput        // in the query string
		currentPasswordInput // in the body
	}) {
	},
	"deleteAllUserLogins":    func(*API, *request, currentPasswordInput) {}, // the handler reads the body itself
	"updatePassword":         (*API).updatePassword,
	"forgotPassword":         (*API).forgotPassword,
	"checkReset":             (*API).checkReset,
	"updatePasswordViaEmail": (*API).updatePasswordViaEmail,
	"createUser":             (*API).createUser,
	"verifyEmail":            (*API).verifyEmail,
	"undoEmailChange":        (*API).undoEmailChange,
	"updateMe":               (*API).updateMe,
	"changePassword":         (*API).changePassword,
	"createSession":          (*API).createSession,
	"reauthenticate":         (*API).reauthenticate,
	"requestPasswordReset":   (*API).requestPasswordReset,
	"checkPasswordReset":     (*API).checkPasswordReset,
	"completePasswordReset":  (*API).completePasswordReset,
	"refreshToken":           (*API).refreshToken,
	"revokeToken":            (*API).revokeToken,
	"introspectToken":        (*API).introspectToken,
	// These two handlers take an issuer.Page, which the function [paged] makes from a pageInput.
	"listSessions":   func(*API, *request, pageInput) {},
	"listLogins":     func(*API, *request, pageInput) {},
	"listSessionsOf": func(*API, *request, pageInput) {},
	"listLoginsOf":   func(*API, *request, pageInput) {},

	"findUsers":          (*API).findUsers,
	"createAccount":      (*API).createAccount,
	"updateAccount":      (*API).updateAccount,
	"deleteOtherAccount": (*API).deleteOtherAccount,
	"suspendAccount":     (*API).suspendAccount,
	"reinstateAccount":   (*API).reinstateAccount,
	"sendPasswordReset":  (*API).sendPasswordReset,
	"revokeSessionsOf":   (*API).revokeSessionsOf,
	"searchSessions":     (*API).searchSessions,
	"revokeAnySession":   (*API).revokeAnySession,
	"revokeByFilter":     (*API).revokeByFilter,
	"listEvents":         (*API).listEvents,
	// The handler deleteSessions reads the query string itself.
	"deleteSessions": func(*API, *request, struct {
		Except string `json:"except"`
	}) {
	},
}

// requiredByHandler maps an operationId to a field that is required by code, not by a struct tag.
var requiredByHandler = map[string]string{"refreshToken": "refresh_token"}

func TestOpenAPI_HasSameRequestFieldsAsHandlers_ASVS_V2_1_1(t *testing.T) {
	unseen := maps.Clone(inputs)
	eachOperation(t, func(t *testing.T, _, _ string, _ *openapi3.PathItem, op *openapi3.Operation) {
		documented := make(map[string]bool) // field name → whether the field is required
		for _, p := range op.Parameters {
			if p.Value.In == openapi3.ParameterInQuery {
				documented[p.Value.Name] = p.Value.Required
			}
		}
		if op.RequestBody != nil {
			for _, content := range op.RequestBody.Value.Content {
				for name := range content.Schema.Value.Properties {
					documented[name] = slices.Contains(content.Schema.Value.Required, name)
				}
			}
		}
		h, found := inputs[op.OperationID]
		delete(unseen, op.OperationID)
		if !found {
			if len(documented) > 0 {
				t.Errorf("openapi.json has the input fields %v, but the variable 'inputs' in this file has no handler for the operation", documented)
			}
			return
		}
		taken := make(map[string]bool)
		for _, f := range inputFields(reflect.TypeOf(h).In(2)) {
			name := f.Tag.Get("json")
			taken[name] = f.Tag.Get("required") == "true" || requiredByHandler[op.OperationID] == name
		}
		for name, required := range taken {
			if want, found := documented[name]; !found {
				t.Errorf("the handler takes the field %q, which openapi.json does not have", name)
			} else if required != want {
				t.Errorf("the handler requires the field %q: %t; openapi.json requires it: %t", name, required, want)
			}
		}
		for name := range documented {
			if _, found := taken[name]; !found {
				t.Errorf("openapi.json has the field %q, which the handler does not take", name)
			}
		}
	})
	for name := range unseen {
		t.Errorf("the variable 'inputs' has the key %q, which is not an operationId of openapi.json", name)
	}
}

// TestOpenAPI_HasSameRequestFieldsAsHandlers_ASVS_V2_1_1 checks only the handlers in the variable 'inputs'.
// That variable must therefore list every handler in routes.go that takes input.
func TestInputsVariable_ListsEveryHandlerThatTakesInput(t *testing.T) {
	routes, err := os.ReadFile("routes.go")
	if err != nil {
		t.Fatal(err)
	}
	typed := regexp.MustCompile(`\b(jsonBody|jsonOrForm|oauthForm|queryParams|strictQuery|paged)\(a\.(\w+)\)`).FindAllSubmatch(routes, -1)
	if len(typed) < len(inputs)-2 {
		t.Errorf("found %d handlers with input in routes.go, want at least %d", len(typed), len(inputs)-2)
	}
	for _, match := range typed {
		if name := string(match[2]); inputs[name] == nil {
			t.Errorf("the variable 'inputs' in this file lacks the handler %s", name)
		}
	}
}
