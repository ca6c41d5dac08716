package api

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session"
)

// request is the input of a handler.
type request struct {
	*http.Request
	// claims are set on routes that need an access token.
	claims session.Claims
	// quota is set if a rate limit was charged.
	quota limit.Decision
	// replyHeader is sent if the handler returns no error.
	replyHeader http.Header
}

// reply is what a handler answers: a status, and a body that is written as JSON if it is not nil.
type reply struct {
	status int
	body   any
}

var noContent = reply{status: http.StatusNoContent}

func ok(body any) reply              { return reply{http.StatusOK, body} }
func created(body any) reply         { return reply{http.StatusCreated, body} }
func accepted(message string) reply  { return reply{http.StatusAccepted, messageBody{message}} }
func okMessage(message string) reply { return ok(messageBody{message}) }

type messageBody struct {
	Message string `json:"message"`
}

// handler answers one route. If it returns an error, its reply is ignored.
type handler func(*request) (reply, error)

// jsonBody makes a handler of h, which takes a JSON body. The body is decoded, and the fields that
// In declares as required are checked, before h is called.
func jsonBody[In any](h func(*request, In) (reply, error)) handler { return typed(decodeJSON, h) }

// jsonOrForm is jsonBody for the classic routes, which take a form too.
func jsonOrForm[In any](h func(*request, In) (reply, error)) handler {
	return typed(decodeJSONOrForm, h)
}

// oauthForm is jsonBody for the OAuth endpoints, which take a form only.
func oauthForm[In any](h func(*request, In) (reply, error)) handler { return typed(decodeOAuth, h) }

// queryParams is jsonBody for a route that takes its input from the query string.
func queryParams[In any](h func(*request, In) (reply, error)) handler { return typed(decodeQuery, h) }

func typed[In any](decode func(*request, any) error, h func(*request, In) (reply, error)) handler {
	return func(q *request) (reply, error) {
		var in In
		if err := decode(q, &in); err != nil {
			return reply{}, err
		}
		if err := checkRequired(&in); err != nil {
			return reply{}, err
		}
		return h(q, in)
	}
}

// writeError writes an error in the format of a group of routes.
type writeError func(w http.ResponseWriter, r *http.Request, err error)

// plain serves a handler that writes its own success.
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
		q := &request{Request: r, replyHeader: http.Header{}}
		rep, err := callHandler(h, q)
		setRateLimitHeaders(w.Header(), q.quota)
		if err != nil {
			fail(w, r, err)
			return
		}
		maps.Copy(w.Header(), q.replyHeader)
		if rep.body == nil {
			w.WriteHeader(rep.status)
			return
		}
		writeJSON(w, r, rep.status, "application/json; charset=utf-8", rep.body)
	}
}

// callHandler turns a panic into an error, because its client must get a response that does not show
// the cause.
func callHandler(h handler, q *request) (rep reply, err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
		}
	}()
	return h(q)
}

// authenticated checks the access token before it calls h.
func (a *API) authenticated(h handler) handler {
	return func(q *request) (rep reply, err error) {
		if q.claims, err = a.authenticate(q.Request); err != nil {
			return reply{}, err
		}
		return h(q)
	}
}

func (a *API) authenticate(r *http.Request) (session.Claims, error) {
	token, err := session.BearerToken(r.Header)
	if err != nil {
		return session.Claims{}, err
	}
	claims, err := a.Sessions.Verify(r.Context(), token)
	if err == nil {
		logEntryOf(r).subject = claims.Subject
	}
	return claims, err
}

// writeJSON encodes the whole body before it sends the first byte. Otherwise a body that cannot be
// encoded would become half a response.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, contentType string, body any) {
	var buf bytes.Buffer
	if err := json.MarshalWrite(&buf, body, json.Deterministic(true)); err != nil {
		logEntryOf(r).err = fmt.Errorf("api: encode the response: %w", err)
		http.Error(w, `{"status":500}`, http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the client may have left
}
