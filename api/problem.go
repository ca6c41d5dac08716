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

// Problem is the body of an error (RFC 9457). Its type is about:blank for all:
// code is what programs look at.
type Problem struct {
	Type    string               `json:"type"`
	Title   string               `json:"title"`
	Status  int                  `json:"status"`
	Detail  string               `json:"detail"`
	Code    string               `json:"code"`
	Message string               `json:"message,omitzero"` // Detail again, on the classic routes
	Errors  identity.FieldErrors `json:"errors,omitzero"`
}

// errRequest is a request that cannot be understood, with the status that says how.
type errRequest struct {
	status int
	code   string
	detail string
}

func (e *errRequest) Error() string { return e.detail }

var (
	errNotFound         = &errRequest{http.StatusNotFound, "not_found", "There is nothing here."}
	errMethodNotAllowed = &errRequest{http.StatusMethodNotAllowed, "method_not_allowed", "This method is not allowed here; Allow names those that are."}
	errMediaType        = &errRequest{http.StatusUnsupportedMediaType, "unsupported_media_type", "Send application/json in UTF-8."}
	errMediaTypeOrForm  = &errRequest{http.StatusUnsupportedMediaType, "unsupported_media_type", "Send application/json or application/x-www-form-urlencoded in UTF-8."}
	errTooLarge         = &errRequest{http.StatusRequestEntityTooLarge, "too_large", "The body is larger than 64 KiB."}
	errOtherUser        = &errRequest{http.StatusForbidden, "other_user", "The token is another user's."}

	// errReauthenticate asks for a fresher proof of identity (RFC 9470).
	errReauthenticate = errors.New("proof of identity is too old")
	errPanic          = errors.New("panic")
)

// errorTable maps errors to answers. What is in no row is a 500, and its cause
// goes to the log alone.
var errorTable = []struct {
	err    error
	status int
	code   string
	detail string
}{
	{session.ErrNoToken, 401, "no_token", "Send Authorization: Bearer with an access token."},
	{session.ErrTwoTokens, 401, "invalid_token", "Send one Authorization header."},
	{session.ErrInvalidToken, 401, "invalid_token", "The token is malformed, expired or not ours."},
	{session.ErrRevoked, 401, "invalid_token", "The token was revoked."},
	{errReauthenticate, 401, "insufficient_user_authentication", "Prove who you are again: POST /v1/sessions/current/reauthenticate."},
	{issuer.ErrNotFound, 404, "session_not_found", "You have no such session."},
	{issuer.ErrSubjectGone, 401, "invalid_credentials", "Wrong login or password."},
	{issuer.ErrCredentialChanged, 401, "invalid_credentials", "Wrong login or password."},
	{issuer.ErrTooManySessions, 409, "too_many_sessions", "You are signed in in too many places. End a session first."},
	{session.ErrUnavailable, 503, "unavailable", "A dependency does not answer. Try again shortly."},
	{identity.ErrWrongPassword, 401, "invalid_credentials", "Wrong login or password."},
	{identity.ErrNotFound, 404, "user_not_found", "User not found."},
	{identity.ErrUsernameTaken, 409, "username_taken", "This username is taken."},
	{identity.ErrEmailTaken, 409, "email_taken", "This email is taken."},
	{identity.ErrInvalidToken, 403, "invalid_reset_token", "The token is invalid or expired."},
	{identity.ErrPasswordChanged, 409, "password_changed", "The password was changed in the meantime."},
	{identity.ErrMailDisabled, 503, "mail_disabled", "No mail server is configured here."},
	{identity.ErrBusy, 503, "busy", "Too many sign in at once. Try again after the seconds of Retry-After."},
	{identity.ErrLimited, 429, "rate_limited", "Too many tries. Try again after the seconds of Retry-After."},
	{identity.ErrUnavailable, 503, "unavailable", "A dependency does not answer. Try again shortly."},
	{context.DeadlineExceeded, 503, "unavailable", "The answer took too long. Try again shortly."},
	{context.Canceled, 503, "cancelled", "The request was given up."},
}

// override is a status that a route answers in place of the table's.
type override struct {
	err    error
	status int
}

func on(err error, status int) override { return override{err, status} }

// problem finds the answer to an error.
func problem(err error, overrides []override) Problem {
	p := Problem{Type: "about:blank", Status: http.StatusInternalServerError, Code: "internal", Detail: "Something went wrong on our side."}
	var fields identity.FieldErrors
	var request *errRequest
	switch {
	case errors.As(err, &fields):
		p.Status, p.Code, p.Detail, p.Errors = http.StatusBadRequest, "invalid_request", describe(fields), fields
	case errors.As(err, &request):
		p.Status, p.Code, p.Detail = request.status, request.code, request.detail
	default:
		for _, row := range errorTable {
			if errors.Is(err, row.err) {
				p.Status, p.Code, p.Detail = row.status, row.code, row.detail
				break
			}
		}
	}
	for _, o := range overrides {
		if errors.Is(err, o.err) {
			p.Status = o.status
		}
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// describe names the first bad field for people; programs read errors.
func describe(fields identity.FieldErrors) string {
	if len(fields) == 0 {
		return "The request is invalid."
	}
	return fmt.Sprintf("%s: %s", fields[0].Field, fields[0].Detail)
}

// challenge is the WWW-Authenticate of a 401 (RFC 6750 section 3, RFC 9470
// section 3).
func (a *API) challenge(err error) string {
	if errors.Is(err, errReauthenticate) {
		return fmt.Sprintf(`%s, error="insufficient_user_authentication", error_description="A more recent authentication is required", max_age="%d"`,
			session.Challenge(err), int(a.ReauthMaxAge.Seconds()))
	}
	return session.Challenge(err)
}
