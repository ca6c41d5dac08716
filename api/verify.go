package api

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
)

const verifyPattern = "/v1/verify"

// gatewayCheck tells an API gateway whether to forward a client's request. Status 200 means yes.
// The headers of the 200 name the user to the service behind the gateway. The log shows a 200 only
// at level debug, because a gateway sends a check before every request.
func (a *API) gatewayCheck() http.Handler {
	check := a.plain(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method == http.MethodTrace { // no gateway needs it, and OWASP ASVS 13.4.4 forbids it
			w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
			return errMethodNotAllowed
		}
		claims, err := a.authenticate(r)
		if err != nil {
			return err
		}
		logEntryOf(r).level = slog.LevelDebug
		h := w.Header()
		// Set empty headers too. Otherwise a gateway would forward headers that the client forged.
		h.Set("X-Auth-Subject", claims.Subject)
		h.Set("X-Auth-Username", percentEncode(claims.Username))
		h.Set("X-Auth-Session", claims.SessionID)
		h.Set("X-Auth-Token-Id", claims.TokenID)
		h.Set("X-Auth-Roles", string(claims.Roles))
		w.WriteHeader(http.StatusOK)
		return nil
	})
	return a.observe(check)
}

// isGatewayCheck reports whether path is /v1/verify or a path below it. Some gateways append the
// path of the request that they want to forward.
func isGatewayCheck(path string) bool {
	return path == verifyPattern || strings.HasPrefix(path, verifyPattern+"/")
}

// percentEncode encodes everything except letters, digits and "-_.~". Services decode other
// characters of a header in different ways, and could otherwise take one username for another.
func percentEncode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
