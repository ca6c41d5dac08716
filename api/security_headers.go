package api

import "net/http"

var securityHeaders = []struct {
	name   string
	values []string // shared by all responses
}{
	{"Cache-Control", []string{"no-store"}},
	{"Content-Security-Policy", []string{"default-src 'none'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; sandbox"}},
	{"Cross-Origin-Resource-Policy", []string{"same-origin"}},
	{"Referrer-Policy", []string{"no-referrer"}},
	{"Strict-Transport-Security", []string{"max-age=31536000; includeSubDomains"}},
	{"X-Content-Type-Options", []string{"nosniff"}},
}

// secure sets the security headers on every response, errors included. A handler may replace them,
// as /docs does with its own Content-Security-Policy.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, s := range securityHeaders {
			h[s.name] = s.values[:1:1] // an append has to copy it
		}
		next.ServeHTTP(w, r)
	})
}
