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
	// ErrSubjectGone means that the user was deleted or suspended.
	ErrSubjectGone = errors.New("the user was deleted or suspended")
	// ErrCredentialChanged means that the password was changed between its verification and the
	// recording of the session.
	ErrCredentialChanged = errors.New("the password was changed after it was verified")
	// ErrTooManySessions means that the user already has the maximum number of active sessions.
	ErrTooManySessions = errors.New("the user has too many active sessions")
)

// invalid returns a [session.ErrInvalidToken] with a reason that is logged, but not sent to the
// client.
func invalid(reason string) error { return fmt.Errorf("%w: %s", session.ErrInvalidToken, reason) }
