package api

import (
	"net/http"

	"github.com/sessiond/sessiond/session/issuer"
)

const requestIDHeader = "X-Request-Id"

// requestID returns the id that a proxy gave the request if it is short and plain. Otherwise it
// makes one.
func requestID(r *http.Request) string {
	if ids := r.Header[requestIDHeader]; len(ids) > 0 && issuer.ValidID(ids[0]) {
		return ids[0]
	}
	return issuer.NewID()
}
