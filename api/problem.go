package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// Problem is the body of an error response (RFC 9457). Type is always "about:blank". Programs tell
// errors apart by Code.
type Problem struct {
	Type    string               `json:"type"`
	Title   string               `json:"title"`
	Status  int                  `json:"status"`
	Detail  string               `json:"detail"`
	Code    string               `json:"code"`
	Message string               `json:"message,omitzero"` // same text as Detail; only on the classic (pre-/v1) routes
	Errors  identity.FieldErrors `json:"errors,omitzero"`
}

// errRequest is an error in the client's request, with the status, code and detail of the response.
type errRequest struct {
	status int
	code   string
	detail string
}

func (e *errRequest) Error() string { return e.detail }

var (
	errNotFound         = &errRequest{http.StatusNotFound, "not_found", "There is nothing here."}
	errMethodNotAllowed = &errRequest{http.StatusMethodNotAllowed, "method_not_allowed", "This method is not allowed here. The header Allow names the methods that are."}
	errMediaType        = &errRequest{http.StatusUnsupportedMediaType, "unsupported_media_type", "Send application/json in UTF-8."}
	errMediaTypeOrForm  = &errRequest{http.StatusUnsupportedMediaType, "unsupported_media_type", "Send application/json or application/x-www-form-urlencoded in UTF-8."}
	errMediaTypeForm    = &errRequest{http.StatusUnsupportedMediaType, "unsupported_media_type", "Send application/x-www-form-urlencoded."}
	errContentCoding    = &errRequest{http.StatusUnsupportedMediaType, "unsupported_media_type", "Send the body without a Content-Encoding."}
	errTooLarge         = &errRequest{http.StatusRequestEntityTooLarge, "too_large", "The body is larger than 64 KiB."}
	errMisdirected      = &errRequest{http.StatusMisdirectedRequest, "misdirected_request", "sessiond dev answers only at a loopback address or localhost."}
	errCrossOrigin      = &errRequest{http.StatusForbidden, "cross_origin", "A page of another site may not send this request. The setting CORS_ORIGINS names the origins that may."}
	errOtherUser        = &errRequest{http.StatusForbidden, "other_user", "The token belongs to another user."}
	errReauthenticate   = &errRequest{http.StatusUnauthorized, "insufficient_user_authentication", "Confirm your password: POST /v1/sessions/current/reauthenticate. A classic route also takes it as current_password."}

	errPanic = errors.New("panic")
)

const wrongLogin = "Wrong login or password."

// errorTable maps errors to responses. The function [session.Explain] does the same for errors of
// package session. For any other error, the client gets a 500, and only the log shows the cause.
var errorTable = []struct {
	err    error
	status int
	code   string
	detail string
}{
	{issuer.ErrNotFound, 404, "session_not_found", "There is no such session."},
	{issuer.ErrSubjectGone, 401, "invalid_credentials", wrongLogin},
	{issuer.ErrCredentialChanged, 401, "invalid_credentials", wrongLogin},
	{issuer.ErrTooManySessions, 409, "too_many_sessions", "You have too many active sessions. End one first."},
	{identity.ErrWrongPassword, 401, "invalid_credentials", wrongLogin},
	{identity.ErrNotFound, 404, "user_not_found", "User not found."},
	{identity.ErrRegistrationClosed, 403, "registration_closed", "Registration is closed here."},
	{identity.ErrUsernameTaken, 409, "username_taken", "This username is taken."},
	{identity.ErrEmailTaken, 409, "email_taken", "This email is taken."},
	{identity.ErrInvalidToken, 403, "invalid_reset_token", "The token is invalid or expired."},
	{identity.ErrPasswordRequired, 404, "password_required", "A later link to this address exists. Send the password of the account that this link is for."},
	{identity.ErrSuspended, 403, "account_suspended", "This account is suspended. Ask the operator of this service."},
	{identity.ErrNotActive, 409, "not_confirmed", "The registration is not confirmed yet."},
	{identity.ErrPasswordChanged, 409, "password_changed", "The password was changed in the meantime."},
	{identity.ErrMailDisabled, 503, "mail_disabled", "No mail server is configured here."},
	{identity.ErrBusy, 503, "busy", "Too many people sign in at once. Try again after the seconds in Retry-After."},
	{identity.ErrLimited, 429, "rate_limited", "Too many tries. Try again after the seconds in Retry-After."},
	{context.DeadlineExceeded, 503, "unavailable", "The request took too long. Try again shortly."},
	{context.Canceled, 503, "cancelled", "The client cancelled the request."},
}

// override replaces, on one route, the status that errorTable gives to an error.
type override struct {
	err    error
	status int
}

func on(err error, status int) override { return override{err, status} }

// problemOf returns the body of the response to an error.
func problemOf(err error, overrides []override) Problem {
	p := Problem{Type: "about:blank", Status: http.StatusInternalServerError, Code: "internal", Detail: "Something went wrong on our side."}
	var fields identity.FieldErrors
	var request *errRequest
	switch {
	case errors.As(err, &fields):
		p.Status, p.Code, p.Detail, p.Errors = http.StatusBadRequest, "invalid_request", describe(fields), fields
	case errors.As(err, &request):
		p.Status, p.Code, p.Detail = request.status, request.code, request.detail
	default:
		p.explain(err)
	}
	for _, o := range overrides {
		if errors.Is(err, o.err) {
			p.Status = o.status
		}
	}
	p.Title = http.StatusText(p.Status)
	return p
}

func (p *Problem) explain(err error) {
	if errors.Is(err, identity.ErrUnavailable) {
		err = session.ErrUnavailable // the response does not say which dependency is down
	}
	if status, code, detail := session.Explain(err); status != 0 {
		p.Status, p.Code, p.Detail = status, code, detail
		return
	}
	for _, row := range errorTable {
		if errors.Is(err, row.err) {
			p.Status, p.Code, p.Detail = row.status, row.code, row.detail
			return
		}
	}
}

// describe returns a sentence about the first invalid field. The response also lists all of them.
func describe(fields identity.FieldErrors) string {
	if len(fields) == 0 {
		return "The request is invalid."
	}
	return fmt.Sprintf("%s: %s", fields[0].Field, fields[0].Detail)
}

// writeProblem returns a function that writes an error as a [Problem]. If classic is true, the body
// also has the member "message", which clients older than /v1 read.
func (a *API) writeProblem(overrides []override, classic bool) writeError {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		p := problemOf(err, overrides)
		if classic {
			p.Message = p.Detail
		}
		a.setErrorHeaders(w.Header(), &p, err)
		logEntryOf(r).err = err
		writeJSON(w, r, p.Status, "application/problem+json; charset=utf-8", p)
	}
}

// setErrorHeaders sets the headers that an error status requires.
func (a *API) setErrorHeaders(h http.Header, p *Problem, err error) {
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", a.challenge(err))
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", retryAfter(err))
	case http.StatusRequestEntityTooLarge:
		h.Set("Connection", "close")
	}
	if errors.Is(err, errContentCoding) {
		h.Set("Accept-Encoding", "identity") // RFC 9110 section 12.5.3
	}
}
