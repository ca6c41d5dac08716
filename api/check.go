package api

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sessiond/sessiond/session"
)

// checkRequest is the question of a gateway: who sends this request?
type checkRequest struct {
	route         string // for the log and the metrics
	method        string
	requestID     string // the one that the gateway sent, or an empty string
	authorization []string
	peer          netip.Addr                 // where the question comes from
	header        func(name string) []string // values of a header

	// The memory of these two is part of the question, because a check allocates as little as possible.
	entry  logEntry
	fields [6]headerField // of the answer
}

// checkAnswer is the answer to a gateway. Status 200 means that the gateway may forward the request.
type checkAnswer struct {
	status int
	header []headerField
	body   []byte
}

// headerField is one header. The name is in canonical form.
type headerField struct{ name, value string }

const problemType = "application/problem+json; charset=utf-8"

// checkMethods are the methods with which a gateway may ask. No gateway needs TRACE, and OWASP ASVS
// 13.4.4 forbids it.
const checkMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// check answers the question of a gateway, whatever protocol the gateway speaks. The headers of the
// 200 name the user to the service behind the gateway. The log shows a 200 only at level debug,
// because a gateway asks before every request.
func (a *API) check(ctx context.Context, q *checkRequest) (answer checkAnswer) {
	entry := &q.entry
	*entry = logEntry{start: time.Now(), id: requestID(q.requestID), method: q.method, route: q.route, level: slog.LevelInfo}
	defer func() {
		if p := recover(); p != nil {
			answer = a.refuse(entry, panicError(p))
		}
		entry.status, entry.bytes = answer.status, len(answer.body)
		a.finish(ctx, entry)
	}()
	entry.clientIP = a.clientAddr(ctx, q.peer, q.header)
	if q.method == http.MethodTrace {
		answer = a.refuse(entry, errMethodNotAllowed)
		answer.header = append(answer.header, headerField{"Allow", checkMethods})
		return answer
	}
	token, err := session.ParseBearer(q.authorization)
	var claims session.Claims
	if err == nil {
		claims, err = a.Sessions.Verify(ctx, token)
	}
	if err != nil {
		return a.refuse(entry, err)
	}
	entry.level, entry.subject = slog.LevelDebug, claims.Subject
	q.fields = [...]headerField{
		// Empty headers are sent, too. Otherwise a gateway would forward headers that the client forged.
		{"X-Auth-Roles", string(claims.Roles)},
		{"X-Auth-Session", claims.SessionID},
		{"X-Auth-Subject", claims.Subject},
		{"X-Auth-Token-Id", claims.TokenID},
		{"X-Auth-Username", percentEncode(claims.Username)},
		{requestIDHeader, entry.id},
	}
	return checkAnswer{status: http.StatusOK, header: q.fields[:]}
}

// checkInSpan is check with a span of its own. On the main port, each request already has one.
func (a *API) checkInSpan(ctx context.Context, q *checkRequest) checkAnswer {
	if a.Span == nil {
		return a.check(ctx, q)
	}
	ctx, end := a.Span(ctx, q.header)
	answer := a.check(ctx, q)
	end(answer.status)
	return answer
}

// refuse returns the answer to a request that the gateway must not forward.
func (a *API) refuse(entry *logEntry, err error) checkAnswer {
	entry.err = err
	p := problemOf(err, nil)
	body, _ := json.Marshal(p, json.Deterministic(true)) // a Problem can always be encoded
	h := http.Header{}
	a.setErrorHeaders(h, &p, err)
	h.Set(requestIDHeader, entry.id)
	h.Set("Content-Type", problemType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	answer := checkAnswer{status: p.Status, body: body}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		answer.header = append(answer.header, headerField{name, h[name][0]})
	}
	return answer
}

const verifyPattern = "/v1/verify"

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
