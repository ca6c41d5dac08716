// Package auth stands in for Traefik's fork of go-http-auth, which not every module proxy serves. Traefik
// uses it in the middlewares basicAuth and digestAuth. Here they refuse every request.
package auth

import "net/http"

// SecretProvider returns the secret of a user.
type SecretProvider func(user, realm string) string

// BasicAuth refuses every request.
type BasicAuth struct {
	Realm   string
	Secrets SecretProvider
}

// RequireAuth answers 401.
func (*BasicAuth) RequireAuth(w http.ResponseWriter, _ *http.Request) { refuse(w) }

// CheckSecret returns false.
func CheckSecret(_, _ string) bool { return false }

// DigestAuth refuses every request.
type DigestAuth struct{}

// NewDigestAuthenticator returns a DigestAuth.
func NewDigestAuthenticator(string, SecretProvider) *DigestAuth { return &DigestAuth{} }

// CheckAuth accepts no request.
func (*DigestAuth) CheckAuth(*http.Request) (username string, info *string) { return "", nil }

// RequireAuth answers 401.
func (*DigestAuth) RequireAuth(w http.ResponseWriter, _ *http.Request) { refuse(w) }

// RequireAuthStale answers 401.
func (*DigestAuth) RequireAuthStale(w http.ResponseWriter, _ *http.Request) { refuse(w) }

// DigestAuthParams returns no parameters.
func DigestAuthParams(string) map[string]string { return nil }

func refuse(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }
