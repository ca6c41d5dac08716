package api

import (
	"net/http"

	"github.com/sessiond/sessiond/session/issuer"
)

const requestIDHeader = "X-Request-Id"

// requestID returns the id in the header X-Request-Id, which a proxy may set. If the id is absent
// or is not a valid id, requestID returns a new id.
func requestID(r *http.Request) string {
	if ids := r.Header[requestIDHeader]; len(ids) > 0 && issuer.ValidID(ids[0]) {
		return ids[0]
	}
	return issuer.NewID()
}
