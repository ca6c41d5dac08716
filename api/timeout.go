package api

import (
	"context"
	"net/http"
	"time"
)

// requestTimeout bounds a request. The slowest request computes one password hash and runs a few
// SQL statements.
const requestTimeout = 10 * time.Second

// timeout ends the context of a request after requestTimeout. The gateway check has no such
// timeout, because its lookups have shorter ones.
func timeout(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
