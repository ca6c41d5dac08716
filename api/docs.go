package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the go:embed of openAPI and docsPage
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
)

// openAPI is the OpenAPI 3.1 document of all routes.
//
//go:embed openapi.json
var openAPI []byte

// docsPage is the HTML page that documents all routes. 'go generate' makes it from openapi.json.
//
//go:generate go run ./docgen
//go:embed docs.html
var docsPage []byte

var docsPolicy = "default-src 'none'; style-src " + inlineHash(docsPage, "style") + pagePolicy

// pagePolicy is the part of the Content-Security-Policy that all HTML pages share.
const pagePolicy = "; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// documents are the OpenAPI document and the page /docs.
type documents struct{ openAPI, page []byte }

// documentVersion is the version that the documents in the source have. Served ones have the program's.
const documentVersion = "0.0.0"

// ofVersion returns the documents with the version of the program.
func (d documents) ofVersion(version string) documents {
	replace := func(document []byte, format string) []byte {
		return bytes.Replace(document, fmt.Appendf(nil, format, documentVersion), fmt.Appendf(nil, format, version), 1)
	}
	page := replace(d.page, `<span class="version">%s</span>`)
	return documents{replace(d.openAPI, `"version": "%s"`), replace(page, `<footer>sessiond API %s</footer>`)}
}

func (d documents) getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	writeDocument(w, "application/json; charset=utf-8", d.openAPI)
}

func (d documents) getPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", docsPolicy)
	writeDocument(w, "text/html; charset=utf-8", d.page)
}

// withoutClassicRoutes returns the documents of a service that does not serve the classic routes. In
// the OpenAPI document, these are the paths with servers of their own, because they are served under
// two prefixes. Nothing else has their tags.
func (d documents) withoutClassicRoutes() documents {
	var doc map[string]any
	if err := json.Unmarshal(d.openAPI, &doc); err != nil {
		panic(err) // the document is part of the program
	}
	gone := map[string]bool{} // tags
	paths := doc["paths"].(map[string]any)
	for path, item := range paths {
		operations := item.(map[string]any)
		if operations["servers"] == nil {
			continue
		}
		delete(paths, path)
		delete(operations, "servers")
		for _, o := range operations {
			gone[o.(map[string]any)["tags"].([]any)[0].(string)] = true
		}
	}
	page := string(d.page)
	doc["tags"] = slices.DeleteFunc(doc["tags"].([]any), func(tag any) bool {
		name := tag.(map[string]any)["name"].(string)
		if gone[name] {
			page = cut(page, "<tbody>\n<tr><th colspan=\"4\" scope=\"rowgroup\"><a href=\"#group-"+name+`">`, "</tbody>")
			page = cut(page, "<section>\n<h2 id=\"group-"+name+`">`, "</section>")
		}
		return gone[name]
	})
	text, err := json.Marshal(doc, json.Deterministic(true))
	if err != nil {
		panic(err)
	}
	return documents{text, []byte(page)}
}

// cut removes the first part of a text that begins and ends with the given texts.
func cut(text, begin, end string) string {
	before, rest, found := strings.Cut(text, begin)
	if !found {
		return text
	}
	_, after, _ := strings.Cut(rest, end)
	return before + after
}

// inlineHash returns the hash by which a Content-Security-Policy allows the inline <style> or
// <script> of a page. The page must have exactly one element of that name.
func inlineHash(page []byte, element string) string {
	_, content, _ := bytes.Cut(page, []byte("<"+element+">"))
	content, _, _ = bytes.Cut(content, []byte("</"+element+">"))
	sum := sha256.Sum256(content)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func writeDocument(w http.ResponseWriter, contentType string, body []byte) {
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // an error means that the client closed the connection
}
