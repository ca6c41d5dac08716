package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

func TestDocsShowsEveryOperation(t *testing.T) {
	page, _ := docsPage()
	eachOperation(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, op *openapi3.Operation) {
		id := `<article class="op" id="` + op.OperationID + `">`
		_, section, found := strings.Cut(string(page), id)
		if !found {
			t.Fatalf("no %s", id)
		}
		section, _, _ = strings.Cut(section, "</article>")
		wants := []string{">" + method + "<", ">" + html.EscapeString(path) + "<", html.EscapeString(op.Summary), "curl "}
		for status := range op.Responses.Map() {
			wants = append(wants, status)
		}
		for _, want := range wants {
			if !strings.Contains(section, want) {
				t.Errorf("no %q in its section", want)
			}
		}
		if !strings.Contains(string(page), `href="#`+op.OperationID+`"`) {
			t.Error("not in the list of routes")
		}
	})
}

// The page must work where nothing else can be reached, and under a policy that
// allows no script.
func TestDocsIsSelfContained(t *testing.T) {
	page, csp := docsPage()
	ids := make(map[string]bool)
	var links []string
	dec := xml.NewDecoder(bytes.NewReader(page))
	dec.Strict, dec.AutoClose, dec.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		element, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		switch name := element.Name.Local; name {
		case "script", "iframe", "object", "embed", "form", "img", "link", "base":
			t.Errorf("<%s> on the page", name)
		}
		for _, a := range element.Attr {
			switch name := a.Name.Local; {
			case name == "id":
				if ids[a.Value] {
					t.Errorf("id %q is not unique", a.Value)
				}
				ids[a.Value] = true
			case name == "href":
				links = append(links, a.Value)
			case name == "src", name == "style", strings.HasPrefix(name, "on"):
				t.Errorf("<%s %s=…> on the page", element.Name.Local, name)
			}
		}
	}
	if len(links) == 0 {
		t.Fatal("no links found")
	}
	for _, link := range links {
		if id, here := strings.CutPrefix(link, "#"); here && !ids[id] {
			t.Errorf("%s leads nowhere", link)
		} else if !here && link != "openapi.json" {
			t.Errorf("%s leads away", link)
		}
	}
	if outside := regexp.MustCompile(`url\(|@import`).Find(page); outside != nil {
		t.Errorf("the style wants something from elsewhere: %s", outside)
	}

	styles := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllSubmatch(page, -1)
	if len(styles) != 1 {
		t.Fatalf("%d styles, want 1", len(styles))
	}
	sum := sha256.Sum256(styles[0][1])
	if want := fmt.Sprintf("style-src 'sha256-%s'", base64.StdEncoding.EncodeToString(sum[:])); !strings.Contains(csp, want) {
		t.Errorf("policy %q has no %q", csp, want)
	}
	if !strings.HasPrefix(csp, "default-src 'none'; ") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q allows more than the style", csp)
	}
}

func TestDocsCurl(t *testing.T) {
	page, _ := docsPage()
	for _, tc := range []struct{ why, want string }{
		{"a long JSON body", `curl -X POST "$BASE/v1/sessions" \
  -H 'Content-Type: application/json' \
  -d '{
  "login": "ada@example.com",
  "password": "correct horse battery staple"
}'`},
		{"a short JSON body", `  -d '{"email": "ada@example.com"}'`},
		{"a form", `curl -X POST "$BASE/oauth/token" \
  --data-urlencode 'grant_type=refresh_token' \
  --data-urlencode 'refresh_token=`},
		{"a token and a query", `curl "$BASE/findUser?username=ada" \
  -H "Authorization: Bearer $TOKEN"`},
		{"no body", `curl "$BASE/livez"`},
		{"a path parameter", `curl -X DELETE "$BASE/v1/sessions/0`},
	} {
		if !strings.Contains(html.UnescapeString(string(page)), tc.want) {
			t.Errorf("%s: not on the page: %s", tc.why, tc.want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	if got, want := shellQuote(`it's`), `'it'\''s'`; got != want {
		t.Errorf("shellQuote: %s, want %s", got, want)
	}
}

func TestRenderDocsRefuses(t *testing.T) {
	for _, tc := range []struct{ why, document string }{
		{"no JSON", `{`},
		{"a tag without a title", `{"tags": [{"name": "x"}]}`},
		{"a tag that is not in the list", `{"paths": {"/a": {"get": {"tags": ["x"]}}}}`},
		{"a parameter that is not there", `{"tags": [{"name": "x", "x-displayName": "X"}], "paths": {"/a": {"get": {"tags": ["x"], "parameters": [{"$ref": "#/components/parameters/P"}]}}}}`},
		{"a response that is not there", `{"tags": [{"name": "x", "x-displayName": "X"}], "paths": {"/a": {"get": {"tags": ["x"], "responses": {"200": {"$ref": "#/components/responses/R"}}}}}}`},
	} {
		if _, err := renderDocs([]byte(tc.document)); err == nil {
			t.Errorf("%s: no error", tc.why)
		}
	}
}
