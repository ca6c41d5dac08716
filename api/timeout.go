package api

import (
	"context"
	"net/http"
	"time"
)

// requestTimeout is the longest time that a request may take. The slowest requests compute one
// password hash and run a few SQL statements.
const requestTimeout = 10 * time.Second

// timeout cancels the context of a request after requestTimeout. The gateway check (/v1/verify)
// does not call timeout, because its lookups have shorter timeouts.
func timeout(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
