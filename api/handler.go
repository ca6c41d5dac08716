package api

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session"
)

// request is the input of a handler.
type request struct {
	*http.Request
	// claims are the claims of the access token. They are empty on routes that need no token.
	claims session.Claims
	// act says which operator sends the request. It is empty on routes that are not for operators.
	act audit.Act
	// quota is the decision of the rate limits about this request. Without rate limits, it is empty.
	quota limit.Decision
	// replyHeader holds additional headers for a successful response.
	replyHeader http.Header
}

// reply is the response of a handler. The body is written as JSON, unless it is nil.
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

// jsonBody returns a handler that decodes the JSON body of a request into the struct type In and
// then calls h. If a required field is empty, the handler returns an error and does not call h.
func jsonBody[In any](h func(*request, In) (reply, error)) handler { return typed(decodeJSON, h) }

// jsonOrForm is like jsonBody and also accepts an HTML form. Clients older than /v1 need that.
func jsonOrForm[In any](h func(*request, In) (reply, error)) handler {
	return typed(decodeJSONOrForm, h)
}

// oauthForm is like jsonBody, but accepts only an HTML form. The OAuth endpoints use it.
func oauthForm[In any](h func(*request, In) (reply, error)) handler { return typed(decodeOAuth, h) }

// queryParams is like jsonBody, but decodes the query string instead of the body.
func queryParams[In any](h func(*request, In) (reply, error)) handler { return typed(decodeQuery, h) }

// strictQuery is like queryParams, but refuses parameters that In does not declare.
func strictQuery[In any](h func(*request, In) (reply, error)) handler {
	return typed(decodeStrictQuery, h)
}

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

// writeError writes an error in the format of its group of routes: classic (pre-/v1), /v1 or OAuth.
type writeError func(w http.ResponseWriter, r *http.Request, err error)

// plain adapts f to net/http. If f returns an error, plain writes the error response.
func (a *API) plain(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := f(w, r); err != nil {
			a.writeProblem(nil, false)(w, r, err)
		}
	}
}

// serve adapts h to net/http. It writes the reply of h or, by calling fail, the error of h.
func (a *API) serve(h handler, fail writeError) http.HandlerFunc {
	origins := a.crossOriginProtection()
	return func(w http.ResponseWriter, r *http.Request) {
		if origins.Check(r) != nil {
			fail(w, r, errCrossOrigin)
			return
		}
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

// callHandler calls h and turns a panic into an error. The client then gets a 500, which does not
// show the cause of the panic.
func callHandler(h handler, q *request) (rep reply, err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			err = panicError(p)
		}
	}()
	return h(q)
}

// authenticated returns a handler that calls h only if the request has a valid access token.
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

// writeJSON encodes the whole body before it sends the first byte. Otherwise an encoding error
// could leave the client with half a response.
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
	_, _ = w.Write(buf.Bytes()) // an error means that the client closed the connection
}
