package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session"
)

// request is what a handler is given. claims are set on routes for people who
// are signed in, and quota where the limits were asked.
type request struct {
	*http.Request
	claims session.Claims
	quota  limit.Decision
}

// reply is what a handler answers: a body to be written as JSON, or none.
type reply struct {
	status int
	body   any
	header http.Header
}

func ok(body any) (reply, error) { return reply{status: http.StatusOK, body: body}, nil }
func accepted(message string) (reply, error) {
	return reply{status: http.StatusAccepted, body: messageBody{message}}, nil
}
func noContent() (reply, error) { return reply{status: http.StatusNoContent}, nil }

type messageBody struct {
	Message string `json:"message"`
}

// handler answers one route by a value or an error.
type handler func(*request) (reply, error)

// writeError turns an error into the body that a group of routes promises.
type writeError func(w http.ResponseWriter, r *http.Request, err error)

// open serves a route that needs no token; signedIn one that does. Those of the
// classic routes add message to their errors.
func (a *API) open(h handler, o ...override) http.HandlerFunc {
	return a.serve(h, a.writeProblem(o, false))
}

func (a *API) signedIn(h handler, o ...override) http.HandlerFunc {
	return a.serve(a.authenticated(h), a.writeProblem(o, false))
}

func (a *API) openClassic(h handler, o ...override) http.HandlerFunc {
	return a.serve(h, a.writeProblem(o, true))
}

func (a *API) signedInClassic(h handler, o ...override) http.HandlerFunc {
	return a.serve(a.authenticated(h), a.writeProblem(o, true))
}

// oauth serves a route whose errors are those of RFC 6749 section 5.2.
func (a *API) oauth(h handler) http.HandlerFunc { return a.serve(h, a.writeOAuthError) }

// plain serves what writes its own success.
func (a *API) plain(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := f(w, r); err != nil {
			a.writeProblem(nil, false)(w, r, err)
		}
	}
}

// serve is the one adapter between handlers and net/http.
func (a *API) serve(h handler, fail writeError) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := &request{Request: r}
		rep, err := protect(h, q)
		quotaHeaders(w.Header(), q.quota)
		if err != nil {
			fail(w, r, err)
			return
		}
		for name, values := range rep.header {
			w.Header()[name] = values
		}
		if rep.body == nil {
			w.WriteHeader(rep.status)
			return
		}
		a.writeJSON(w, r, rep.status, "application/json; charset=utf-8", rep.body)
	}
}

// protect turns a panic into an error, so that one request cannot end the
// process and its answer says nothing of it.
func protect(h handler, q *request) (rep reply, err error) {
	defer recovered(&err)
	return h(q)
}

func recovered(err *error) {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		panic(p)
	default:
		*err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
	}
}

// authenticated checks the bearer token before h.
func (a *API) authenticated(h handler) handler {
	return func(q *request) (reply, error) {
		token, err := session.BearerToken(q.Header)
		if err != nil {
			return reply{}, err
		}
		if q.claims, err = a.Sessions.Verify(q.Context(), token); err != nil {
			return reply{}, err
		}
		note(q.Context()).subject = q.claims.Subject
		return h(q)
	}
}

// fresh refuses a proof of identity that is older than ReauthMaxAge.
func (a *API) fresh(h handler) handler {
	return func(q *request) (reply, error) {
		if err := a.checkFresh(q); err != nil {
			return reply{}, err
		}
		return h(q)
	}
}

func (a *API) checkFresh(q *request) error {
	if a.ReauthMaxAge > 0 && a.Now().Sub(q.claims.AuthTime) >= a.ReauthMaxAge {
		return errReauthenticate
	}
	return nil
}

func (a *API) writeProblem(overrides []override, classic bool) writeError {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		p := problem(err, overrides)
		if classic {
			p.Message = p.Detail
		}
		a.errorHeaders(w, r, p, err)
		a.writeJSON(w, r, p.Status, "application/problem+json; charset=utf-8", p)
	}
}

// oauthError is RFC 6749 section 5.2.
type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (a *API) writeOAuthError(w http.ResponseWriter, r *http.Request, err error) {
	p := problem(err, nil)
	code := "server_error"
	switch {
	case p.Code == "unsupported_grant_type", p.Code == errClient.code:
		code = p.Code
	case p.Code == "invalid_token" || p.Code == "invalid_credentials":
		p.Status, code = http.StatusBadRequest, "invalid_grant"
	case p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests:
		code = "temporarily_unavailable"
	case p.Status < http.StatusInternalServerError:
		code = "invalid_request"
	}
	a.errorHeaders(w, r, p, err)
	a.writeJSON(w, r, p.Status, "application/json; charset=utf-8", oauthError{code, p.Detail})
}

// retryAfter is the seconds after which to come back: as the error says, or long
// enough for a store to come back, and short enough that nobody gives up.
func retryAfter(err error) string {
	after := 2 * time.Second
	if retry := (*identity.RetryError)(nil); errors.As(err, &retry) {
		after = retry.After
	}
	return strconv.Itoa(seconds(after))
}

func (a *API) errorHeaders(w http.ResponseWriter, r *http.Request, p Problem, err error) {
	switch p.Status {
	case http.StatusUnauthorized:
		if w.Header().Set("WWW-Authenticate", a.challenge(err)); p.Code == errClient.code {
			w.Header().Set("WWW-Authenticate", `Basic realm="sessiond"`)
		}
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", retryAfter(err))
	case http.StatusRequestEntityTooLarge:
		w.Header().Set("Connection", "close")
	}
	note(r.Context()).err = err
}

// writeJSON encodes before the first byte goes out, so that a body that cannot
// be encoded is a 500 and not half an answer.
func (a *API) writeJSON(w http.ResponseWriter, r *http.Request, status int, contentType string, body any) {
	var buf bytes.Buffer
	if err := json.MarshalWrite(&buf, body); err != nil {
		note(r.Context()).err = fmt.Errorf("api: encode answer: %w", err)
		http.Error(w, `{"status":500}`, http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the client may have left
}

// noteKey is the context key of what a handler tells the request log.
type noteKey struct{}

// remark is what the request log says beyond the request itself.
type remark struct {
	level   slog.Level
	subject string
	err     error
}

func note(ctx context.Context) *remark {
	if n, ok := ctx.Value(noteKey{}).(*remark); ok {
		return n
	}
	return &remark{}
}
