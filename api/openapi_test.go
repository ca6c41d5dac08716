package api

import (
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiond/sessiond/identity"
)

func loadOpenAPI(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPIJSON())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// eachOperation calls f with every operation of the document.
func eachOperation(t *testing.T, f func(t *testing.T, method, path string, item *openapi3.PathItem, op *openapi3.Operation)) {
	t.Helper()
	for path, item := range loadOpenAPI(t).Paths.Map() {
		for method, op := range item.Operations() {
			t.Run(method+" "+path, func(t *testing.T) { f(t, method, path, item, op) })
		}
	}
}

// Examples count: each has to fit its schema.
func TestOpenAPIIsValid(t *testing.T) {
	doc := loadOpenAPI(t)
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("openapi is %q, want 3.1", doc.OpenAPI)
	}
	if err := doc.Validate(t.Context(), openapi3.EnableExamplesValidation(), openapi3.EnableSchemaPatternValidation()); err != nil {
		t.Error(err)
	}
}

func TestOpenAPIReferences(t *testing.T) {
	used := make(map[string]bool)
	dec := jsontext.NewDecoder(strings.NewReader(string(openAPIJSON())))
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
	if err := json.Unmarshal(openAPIJSON(), &doc); err != nil {
		t.Fatal(err)
	}
	defined := make(map[string]bool)
	for kind, components := range doc.Components {
		for name := range components {
			defined["#/components/"+kind+"/"+name] = true
		}
	}
	if len(used) == 0 {
		t.Fatal("no $ref found")
	}
	for ref := range used {
		if !defined[ref] {
			t.Errorf("%s leads nowhere", ref)
		}
	}
	unreferenced := map[string]bool{
		"#/components/securitySchemes/bearer":     true, // named, not referred to
		"#/components/securitySchemes/client":     true,
		"#/components/responses/MethodNotAllowed": true, // of a path, hence of no operation
	}
	for ref := range defined {
		if !used[ref] && !unreferenced[ref] {
			t.Errorf("%s is used by nothing", ref)
		}
	}
}

func TestOpenAPIOperationsAreComplete(t *testing.T) {
	ids := make(map[string]bool)
	eachOperation(t, func(t *testing.T, _, _ string, _ *openapi3.PathItem, op *openapi3.Operation) {
		if op.OperationID == "" || ids[op.OperationID] {
			t.Errorf("operationId %q is missing or not unique", op.OperationID)
		}
		ids[op.OperationID] = true
		if op.Summary == "" {
			t.Error("no summary")
		}
		var good, bad bool
		for status, r := range op.Responses.Map() {
			good = good || status[0] == '2'
			bad = bad || status[0] == '4' || status[0] == '5'
			headers := r.Value.Headers
			switch status {
			case "401":
				if headers["WWW-Authenticate"] == nil {
					t.Error("401 without WWW-Authenticate")
				}
			case "429", "503":
				if headers["Retry-After"] == nil {
					t.Errorf("%s without Retry-After", status)
				}
			case "204":
				if len(r.Value.Content) > 0 {
					t.Error("204 with a body")
				}
			}
		}
		if !good || !bad {
			t.Errorf("wants a success and an error among its responses: success %t, error %t", good, bad)
		}
		if protected(op) && op.Responses.Value("401") == nil {
			t.Error("needs a token and has no 401")
		}
		if op.RequestBody != nil && (op.Responses.Value("413") == nil || op.Responses.Value("415") == nil) {
			t.Error("takes a body and has no 413 or no 415")
		}
	})
}

func TestOpenAPIRequestFieldsAreBounded(t *testing.T) {
	eachOperation(t, func(t *testing.T, _, _ string, _ *openapi3.PathItem, op *openapi3.Operation) {
		for _, p := range op.Parameters {
			checkBounds(t, p.Value.Name, p.Value.Schema.Value)
		}
		if op.RequestBody == nil {
			return
		}
		for media, content := range op.RequestBody.Value.Content {
			body := content.Schema.Value
			if !body.Type.Is("object") || len(body.Properties) == 0 {
				t.Errorf("%s: the body is no object with fields", media)
			}
			for name, s := range body.Properties {
				checkBounds(t, name, s.Value)
			}
			// RFC 6749 section 3.2 has unknown parameters ignored.
			if closed(body) == strings.HasPrefix(op.Tags[0], "oauth") {
				t.Errorf("%s: additionalProperties: false is %t", media, closed(body))
			}
			for _, name := range body.Required {
				if body.Properties[name] == nil {
					t.Errorf("%s: required field %q is not there", media, name)
				}
			}
		}
	})
}

func checkBounds(t *testing.T, name string, s *openapi3.Schema) {
	t.Helper()
	switch {
	case s.Const != nil || len(s.Enum) > 0:
	case s.Type.Is("string"):
		if s.MaxLength == nil {
			t.Errorf("%s has no maxLength", name)
		}
	case s.Type.Is("integer"):
		if s.Min == nil || s.Max == nil {
			t.Errorf("%s has no minimum or no maximum", name)
		}
	default:
		t.Errorf("%s is neither a string nor an integer", name)
	}
}

func TestOpenAPIResponsesAreClosed(t *testing.T) {
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

// protected tells whether an operation needs credentials, as the document says.
func protected(op *openapi3.Operation) bool { return op.Security == nil || len(*op.Security) > 0 }

func TestOpenAPIMatchesRoutes(t *testing.T) {
	// Any method and any suffix; the document shows one and tells of the others.
	routes := map[string]bool{http.MethodGet + " " + verifyPattern: true}
	walk := func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routes[method+" "+route] = true
		return nil
	}
	if err := chi.Walk((&API{}).routes(), walk); err != nil {
		t.Fatal(err)
	}
	compareRoutes(t, routes)
}

// compareRoutes holds the document to routes, which are "GET /path" each: every
// operation under each of its servers, and nothing else.
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
			t.Errorf("%s is documented and not served", r)
		}
	}
	for _, r := range slices.Sorted(maps.Keys(routes)) {
		if !documented[r] {
			t.Errorf("%s is served and not documented", r)
		}
	}
}

// A request without a token is turned away for that, exactly where the document
// says that one is needed.
func TestOpenAPISecurityMatchesRoutes(t *testing.T) {
	handler := (&API{Users: &identity.Service{}, Log: slog.New(slog.DiscardHandler)}).Handler()
	eachOperation(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, op *openapi3.Operation) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
		if refused := w.Code == http.StatusUnauthorized; refused != protected(op) {
			t.Errorf("answers %d without a token; the document says that it needs one: %t", w.Code, protected(op))
		}
		if w.Code < 500 && op.Responses.Status(w.Code) == nil {
			t.Errorf("answers %d, which is not documented", w.Code)
		}
	})
}

// The objects that handlers write have the members of their schemas.
func TestOpenAPIMatchesBodies(t *testing.T) {
	schemas := loadOpenAPI(t).Components.Schemas
	for name, body := range map[string]any{
		"Message":           messageBody{},
		"AuthMessage":       authMessageBody{},
		"SignedIn":          signedInBody{},
		"UserLogin":         loginBody{},
		"DeletedUserLogins": deletedLoginsBody{},
		"Session":           sessionBody{},
		"Login":             historyBody{},
		"NewSession":        tokenSetBody{RefreshToken: "r", Session: &sessionBody{}},
		"Reauthenticated":   tokenSetBody{Session: &sessionBody{}},
		"TokenSet":          tokenSetBody{RefreshToken: "r"},
		"SessionPage":       list[sessionBody]{},
		"User":              userBody{},
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
			t.Errorf("%s: documented %v, written %v", name, documented, written)
		}
	}
}
