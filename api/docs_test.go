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
	"github.com/go-json-experiment/json"
)

func TestDocsPage_ShowsEveryOperation(t *testing.T) {
	page := html.UnescapeString(string(docsPage))
	eachOperation(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, op *openapi3.Operation) {
		id := `<article class="op" id="` + op.OperationID + `">`
		_, section, found := strings.Cut(page, id)
		if !found {
			t.Fatalf("the page does not contain %s", id)
		}
		section, _, _ = strings.Cut(section, "</article>")
		wants := []string{">" + method + "<", ">" + path + "<", op.Summary, "curl "}
		for status := range op.Responses.Map() {
			wants = append(wants, status)
		}
		for _, want := range wants {
			if !strings.Contains(section, want) {
				t.Errorf("the section of this operation does not contain %q", want)
			}
		}
		if !strings.Contains(page, `href="#`+op.OperationID+`"`) {
			t.Error("the table of routes at the top of the page does not link to the operation")
		}
	})
}

// The page /docs must work in a network without internet access, and under a
// Content-Security-Policy that allows no script.
func TestDocsPage_NeedsNoScriptAndNoOtherFile_ASVS_V14_2_3(t *testing.T) {
	ids := make(map[string]bool)
	var links []string
	dec := xml.NewDecoder(bytes.NewReader(docsPage))
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
			t.Errorf("the page has a <%s>", name)
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
				t.Errorf("the page has a <%s %s=…>", element.Name.Local, name)
			}
		}
	}
	if len(links) == 0 {
		t.Fatal("the page has no links")
	}
	for _, link := range links {
		if id, here := strings.CutPrefix(link, "#"); here && !ids[id] {
			t.Errorf("the page has the link %s and no element with that id", link)
		} else if !here && link != "openapi.json" {
			t.Errorf("the link %s leads to another document", link)
		}
	}
}

func TestDocsPolicy_AllowsOnlyInlineStyleOfPage_ASVS_V3_4_3(t *testing.T) {
	styles := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllSubmatch(docsPage, -1)
	if len(styles) != 1 {
		t.Fatalf("the page has %d style elements, want 1", len(styles))
	}
	sum := sha256.Sum256(styles[0][1])
	if want := fmt.Sprintf("style-src 'sha256-%s'", base64.StdEncoding.EncodeToString(sum[:])); !strings.Contains(docsPolicy, want) {
		t.Errorf("the policy %q does not contain %q", docsPolicy, want)
	}
	if !strings.HasPrefix(docsPolicy, "default-src 'none'; ") || strings.Contains(docsPolicy, "unsafe") {
		t.Errorf("the policy %q allows more than the page's style", docsPolicy)
	}
}

func TestDocuments_HaveVersionOfProgram(t *testing.T) {
	served := documents{openAPI, docsPage}.ofVersion("v1.2.3-rc.1+dirty")
	var doc struct {
		Info struct{ Version string }
	}
	if err := json.Unmarshal(served.openAPI, &doc, json.MatchCaseInsensitiveNames(true)); err != nil || doc.Info.Version != "v1.2.3-rc.1+dirty" {
		t.Errorf("the OpenAPI document has version %q, error %v", doc.Info.Version, err)
	}
	if n := bytes.Count(served.page, []byte("v1.2.3-rc.1+dirty")); n != 2 || bytes.Contains(served.page, []byte(documentVersion)) {
		t.Errorf("the page shows the version %d times, want twice, and no other version", n)
	}
}
