package api

import (
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

func writeDocument(w http.ResponseWriter, contentType string, body []byte) error {
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client may have left
	return nil
}
