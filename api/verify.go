package api

import (
	"context"
	"log/slog"
	"net"
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
	pass(w, r, &claims, requestID(r))
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
			fields := passed(claims, w.Header().Get(requestIDHeader))
			setFields(w.Header(), fields[:])
			w.WriteHeader(http.StatusOK)
		}
		return err
	}))
	return g.trust(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.observeSince(start, verifyPattern, answer, w, r)
	}))
}

// field is a header field of an answer.
type field struct{ name, value string }

// passed says who is asking. Each field is set every time, lest a gateway that
// copies them leaves in place what a client has sent by that name.
//
// The username is percent-encoded: what a service makes of a header that is not
// ASCII is anybody's guess, and one name must not turn into another on the way:
// so all but letters, digits and "-_.~" are, that nobody reads a plus as a space.
func passed(c *session.Claims, requestID string) [5]field {
	return [...]field{
		{"X-Auth-Subject", c.Subject},
		{"X-Auth-Username", strings.ReplaceAll(url.QueryEscape(c.Username), "+", "%20")},
		{"X-Auth-Session", c.SessionID},
		{"X-Auth-Token-Id", c.TokenID},
		{requestIDHeader, requestID},
	}
}

// FieldWriter is a connection that can add header fields to the next answer by
// itself. For an answer that is nothing but a dozen fields, [http.Header] costs
// more than all else that the service does for it.
type FieldWriter interface {
	net.Conn
	// FieldBuffer returns an empty buffer to append the fields to.
	FieldBuffer() []byte
	// SetFields adds fields to the next answer, each a line that ends in CR LF.
	SetFields(fields []byte)
}

type connKey struct{}

// ConnContext is [http.Server.ConnContext]: it lets a check find a FieldWriter.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if w, ok := c.(FieldWriter); ok {
		return context.WithValue(ctx, connKey{}, w)
	}
	return ctx
}

// pass answers a check that is let through.
func pass(w http.ResponseWriter, r *http.Request, c *session.Claims, requestID string) {
	fields := passed(c, requestID)
	if conn, ok := r.Context().Value(connKey{}).(FieldWriter); ok {
		if b, ok := appendFields(conn.FieldBuffer(), fields[:]); ok {
			conn.SetFields(append(b, secureFields...))
			return
		}
	}
	setFields(w.Header(), fields[:])
	setSecureHeaders(w.Header())
}

func setFields(h http.Header, fields []field) {
	for _, f := range fields {
		h.Set(f.name, f.value)
	}
}

// appendFields is not ok for a value that net/http would have to clean.
func appendFields(b []byte, fields []field) (_ []byte, ok bool) {
	for _, f := range fields {
		b = append(append(append(b, f.name...), ": "...), f.value...)
		for i := range len(f.value) {
			if f.value[i] < ' ' || f.value[i] > '~' {
				return nil, false
			}
		}
		b = append(b, "\r\n"...)
	}
	return b, true
}

func isGatewayCheck(path string) bool {
	return path == verifyPattern || strings.HasPrefix(path, verifyPattern+"/")
}
