package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the go:embed of openAPI and docsPage
	"encoding/base64"
	"net/http"
	"strconv"
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
const pagePolicy = "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	writeDocument(w, "application/json; charset=utf-8", openAPI)
}

func getDocs(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", docsPolicy)
	writeDocument(w, "text/html; charset=utf-8", docsPage)
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
