package api

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
)

const verifyPattern = "/v1/verify"

// gatewayCheck answers a gateway that asks, with any method, whether to forward a request. A 200
// means yes. It has no body, and its headers name the user to the service behind the gateway. A 200
// is only logged at level debug, because a gateway asks before every request.
func (a *API) gatewayCheck() http.Handler {
	check := a.plain(func(w http.ResponseWriter, r *http.Request) error {
		claims, err := a.authenticate(r)
		if err != nil {
			return err
		}
		logEntryOf(r).level = slog.LevelDebug
		h := w.Header()
		// Set every header, also to an empty value. Otherwise a gateway that copies these headers
		// would forward a header of the same name that the client sent.
		h.Set("X-Auth-Subject", claims.Subject)
		h.Set("X-Auth-Username", percentEncode(claims.Username))
		h.Set("X-Auth-Session", claims.SessionID)
		h.Set("X-Auth-Token-Id", claims.TokenID)
		w.WriteHeader(http.StatusOK)
		return nil
	})
	return a.trustProxies(a.observe(secure(check)))
}

// isGatewayCheck reports whether path belongs to the gateway check. Some gateways append the path
// of the request that they ask about.
func isGatewayCheck(path string) bool {
	return path == verifyPattern || strings.HasPrefix(path, verifyPattern+"/")
}

// percentEncode encodes everything except letters, digits and "-_.~". Services read other
// characters of a header in different ways, and one username must not become another.
func percentEncode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
