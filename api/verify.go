package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sessiond/sessiond/session"
)

const verifyPattern = "/v1/verify"

// gatewayCheck is what a gateway asks before it passes a request on, of any
// method: 200 says who is asking, in headers for the service behind, and has no
// body. It is asked for every request of every API, so that one which is let
// through skips the middleware of the other routes: it has a request id and a
// place in the metrics, a line in the log at the level debug, and no deadline but
// those of the check itself.
type gatewayCheck struct {
	*API
	trust func(http.Handler) http.Handler
}

func (a *API) gatewayCheck() gatewayCheck { return gatewayCheck{a, a.trustProxies()} }

func (g gatewayCheck) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	claims, err := g.check(r)
	if err != nil || g.Log.Enabled(r.Context(), slog.LevelDebug) {
		g.observed(start, &claims, err).ServeHTTP(w, r)
		return
	}
	pass(w.Header(), &claims, requestID(r))
	if g.Metrics == nil {
		return
	}
	if r.Method == http.MethodGet {
		g.Metrics.passed.Observe(time.Since(start).Seconds())
	} else {
		g.Metrics.observe(r.Method, verifyPattern, http.StatusOK, time.Since(start))
	}
}

func (g gatewayCheck) check(r *http.Request) (c session.Claims, err error) {
	defer recovered(&err)
	token, err := session.BearerToken(r.Header)
	if err != nil {
		return session.Claims{}, err
	}
	// It ends by itself in a moment; watching for the client to leave costs more.
	return g.Sessions.Verify(context.WithoutCancel(r.Context()), token)
}

// observed answers as the other routes do.
func (g gatewayCheck) observed(start time.Time, claims *session.Claims, err error) http.Handler {
	answer := secure(g.plain(func(w http.ResponseWriter, r *http.Request) error {
		if err == nil {
			note(r.Context()).level, note(r.Context()).subject = slog.LevelDebug, claims.Subject
			pass(w.Header(), claims, w.Header().Get(requestIDHeader))
			w.WriteHeader(http.StatusOK)
		}
		return err
	}))
	return g.trust(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.observeSince(start, verifyPattern, answer, w, r)
	}))
}

// pass says who is asking. Each header is set every time, lest a gateway that
// copies them leaves in place what a client has sent by that name.
//
// The username is percent-encoded: what a service makes of a header that is not
// ASCII is anybody's guess, and one name must not turn into another on the way:
// so all but letters, digits and "-_.~" are, that nobody reads a plus as a space.
func pass(h http.Header, c *session.Claims, requestID string) {
	values := [...]string{c.Subject, strings.ReplaceAll(url.QueryEscape(c.Username), "+", "%20"), c.SessionID, c.TokenID, requestID}
	h["X-Auth-Subject"] = values[0:1:1]
	h["X-Auth-Username"] = values[1:2:2]
	h["X-Auth-Session"] = values[2:3:3]
	h["X-Auth-Token-Id"] = values[3:4:4]
	h[requestIDHeader] = values[4:5:5]
	setSecureHeaders(h)
}

// anyMethod takes the requests of the check whose method chi does not know from
// those that are refused for their method.
func (g gatewayCheck) anyMethod(others http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == verifyPattern || strings.HasPrefix(r.URL.Path, verifyPattern+"/") {
			g.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	}
}
