package session

import (
	"errors"
	"fmt"
	"net/http"
)

// These errors mean that a request's access token was not accepted.
var (
	// ErrNoToken means that the request has no bearer token.
	ErrNoToken = errors.New("no bearer token")
	// ErrTwoTokens means that the request has more than one Authorization header. It is refused,
	// because a proxy may have checked one of these headers and sessiond would check another.
	ErrTwoTokens = fmt.Errorf("%w: more than one Authorization header", ErrInvalidToken)
	// ErrInvalidToken means that the token is malformed, badly signed, expired, or was issued for
	// another service.
	ErrInvalidToken = errors.New("invalid token")
	// ErrRevoked means that the token is well signed and has not expired, but the token or its
	// session was revoked.
	ErrRevoked = errors.New("token revoked")
	// ErrUnavailable means that the check has no result, because a dependency did not answer. The
	// client gets a 503 and never a 401, because an outage must not sign anybody out.
	ErrUnavailable = errors.New("temporarily unavailable")
)

// invalid returns an ErrInvalidToken with a reason that is logged, but not sent to the client.
func invalid(reason string) error { return fmt.Errorf("%w: %s", ErrInvalidToken, reason) }

// explanations lists the HTTP response to each error of this package. ErrTwoTokens must come before
// ErrInvalidToken, because it wraps ErrInvalidToken.
var explanations = []struct {
	err          error
	status       int
	code, detail string
}{
	{ErrNoToken, http.StatusUnauthorized, "no_token", "Send Authorization: Bearer with an access token."},
	{ErrTwoTokens, http.StatusUnauthorized, "invalid_token", "Send one Authorization header."},
	{ErrInvalidToken, http.StatusUnauthorized, "invalid_token", "The token is malformed, expired or not ours."},
	{ErrRevoked, http.StatusUnauthorized, "invalid_token", "The token was revoked."},
	{ErrUnavailable, http.StatusServiceUnavailable, "unavailable", "A dependency does not answer. Try again shortly."},
}

// Explain returns the HTTP status of the response to a request that failed with err, a code for
// programs, and a detail for people. The status is 0 if err is not an error of this package.
func Explain(err error) (status int, code, detail string) {
	for _, e := range explanations {
		if errors.Is(err, e.err) {
			return e.status, e.code, e.detail
		}
	}
	return 0, "", ""
}

// Challenge returns the WWW-Authenticate header of a 401 for err (RFC 6750 section 3). The header
// does not name an error if the request had no token.
func Challenge(err error) string {
	const realm = `Bearer realm="sessiond"`
	if errors.Is(err, ErrInvalidToken) || errors.Is(err, ErrRevoked) {
		return realm + `, error="invalid_token", error_description="The token is not valid any more"`
	}
	return realm
}
