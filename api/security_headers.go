package api

import (
	"maps"
	"net/http"
)

var securityHeaders = http.Header{
	"Cache-Control":                {"no-store"},
	"Content-Security-Policy":      {"default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; sandbox"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Referrer-Policy":              {"no-referrer"},
	"Strict-Transport-Security":    {"max-age=31536000; includeSubDomains"},
	"X-Content-Type-Options":       {"nosniff"},
}

// secure sets the security headers on every response, also on errors. A handler may replace a
// header: the page /docs needs a Content-Security-Policy that allows its inline style.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), securityHeaders)
		next.ServeHTTP(w, r)
	})
}
