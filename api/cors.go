package api

import (
	"net/http"

	"github.com/rs/cors"
)

// cors lets pages of the origins in CORSOrigins call the service from a browser.
func (a *API) cors(next http.Handler) http.Handler {
	if len(a.CORSOrigins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: a.CORSOrigins,
		AllowedMethods: []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"},
		AllowedHeaders: append([]string{"Authorization", "Content-Type", requestIDHeader, deviceHeader}, a.CORSHeaders...),
		ExposedHeaders: []string{"X-Auth-Token", deviceHeader, requestIDHeader, "WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy"},
		MaxAge:         600,
	}).Handler(next)
}
