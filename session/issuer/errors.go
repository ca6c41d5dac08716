package issuer

import (
	"errors"
	"fmt"

	"github.com/sessiond/sessiond/session"
)

// These are the errors of this package. Its functions also return errors of package session.
var (
	// ErrNotFound means that the subject has no such session.
	ErrNotFound = errors.New("session not found")
	// ErrSubjectGone means that the user was deleted or suspended in the meantime.
	ErrSubjectGone = errors.New("subject gone")
	// ErrCredentialChanged means that the password was changed after it was verified and before the
	// session was recorded.
	ErrCredentialChanged = errors.New("credential changed")
	// ErrTooManySessions means that the user has as many active sessions as are allowed.
	ErrTooManySessions = errors.New("too many sessions")
)

// invalid returns a [session.ErrInvalidToken] with a reason for the log. Clients do not see the
// reason.
func invalid(reason string) error { return fmt.Errorf("%w: %s", session.ErrInvalidToken, reason) }
