package api

import (
	"errors"
	"fmt"

	"github.com/sessiond/sessiond/session"
)

// challenge returns the header WWW-Authenticate of a 401: Basic for an OAuth client (RFC 6749
// section 5.2), and otherwise Bearer (RFC 6750 section 3). If the last password check is too old,
// the header contains its maximum age (RFC 9470 section 3).
func (a *API) challenge(err error) string {
	switch {
	case errors.Is(err, errClient):
		return `Basic realm="sessiond"`
	case errors.Is(err, errReauthenticate):
		return fmt.Sprintf(`%s, error="insufficient_user_authentication", error_description="A more recent authentication is required", max_age="%d"`,
			session.Challenge(err), int(a.ReauthMaxAge.Seconds()))
	default:
		return session.Challenge(err)
	}
}
