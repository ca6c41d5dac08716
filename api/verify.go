package api

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/sessiond/sessiond/session"
)

const verifyPattern = "/v1/verify"

// gatewayCheck answers the question that a gateway asks before it forwards a request. The question
// may have any method. The answer 200 has no body; its headers name the user to the service behind
// the gateway. A gateway may ask for every request of every API, so an answer of 200 is logged at
// the level debug only.
func (a *API) gatewayCheck() http.Handler {
	check := a.plain(func(w http.ResponseWriter, r *http.Request) error {
		token, err := session.BearerToken(r.Header)
		if err != nil {
			return err
		}
		claims, err := a.Sessions.Verify(r.Context(), token)
		if err != nil {
			return err
		}
		note(r.Context()).level, note(r.Context()).subject = slog.LevelDebug, claims.Subject
		h := w.Header()
		// Each header is set on every answer. Otherwise a gateway that copies them would forward
		// a header of that name that the client sent.
		h.Set("X-Auth-Subject", claims.Subject)
		h.Set("X-Auth-Username", percentEncode(claims.Username))
		h.Set("X-Auth-Session", claims.SessionID)
		h.Set("X-Auth-Token-Id", claims.TokenID)
		w.WriteHeader(http.StatusOK)
		return nil
	})
	return a.trustProxies()(a.observeRoute(verifyPattern, secure(check)))
}

// isGatewayCheck reports whether path is the gateway check's. Some gateways append the path of the
// request that they ask about.
func isGatewayCheck(path string) bool {
	return path == verifyPattern || strings.HasPrefix(path, verifyPattern+"/")
}

// percentEncode encodes everything but letters, digits and "-_.~". Services disagree about headers
// that are not ASCII and about what a plus sign means, and one username must not become another.
func percentEncode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
