package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strconv"
)

// serveOpenAPI and serveDocs write what does not change with the request.
func serveOpenAPI(w http.ResponseWriter, _ *http.Request) error {
	return writeDocument(w, "application/json; charset=utf-8", openAPIJSON())
}

func serveDocs(w http.ResponseWriter, _ *http.Request) error {
	page, csp := docsPage()
	w.Header().Set("Content-Security-Policy", csp)
	return writeDocument(w, "text/html; charset=utf-8", page)
}

// verifyPage is where the link of a confirmation mail leads unless VERIFY_URL
// names a page of the team's own.
//
//go:embed verify.html
var verifyPage []byte

var verifyCSP = "default-src 'none'; connect-src 'self'; script-src " + inlineHash(verifyPage, "script") +
	"; style-src " + inlineHash(verifyPage, "style") + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func serveVerify(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Security-Policy", verifyCSP)
	return writeDocument(w, "text/html; charset=utf-8", verifyPage)
}

// inlineHash is what a Content-Security-Policy calls the page's one inline
// element of this name.
func inlineHash(page []byte, element string) string {
	_, content, _ := bytes.Cut(page, []byte("<"+element+">"))
	content, _, _ = bytes.Cut(content, []byte("</"+element+">"))
	sum := sha256.Sum256(content)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func writeDocument(w http.ResponseWriter, contentType string, body []byte) error {
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client may have left
	return nil
}
