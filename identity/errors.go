package identity

import (
	"errors"

	"github.com/sessiond/sessiond/identity/hashing"
)

// Errors of this package. Any other error, except [FieldErrors], is a fault of the program.
var (
	ErrUsernameTaken = errors.New("username taken")
	ErrEmailTaken    = errors.New("email taken")
	// ErrNotFound: there is no such user.
	ErrNotFound = errors.New("user not found")
	// ErrWrongPassword: the user exists and has another password.
	ErrWrongPassword = errors.New("wrong password")
	// ErrInvalidToken: a mailed token is unknown, used, replaced or expired.
	ErrInvalidToken = errors.New("invalid or expired token")
	// ErrPasswordChanged: the password changed during this change.
	ErrPasswordChanged = errors.New("password changed meanwhile")
	// ErrMailDisabled: no mail server is configured.
	ErrMailDisabled = errors.New("mail is not configured")
	// ErrLimited: a rate limit refused the attempt. It comes in a [RetryError].
	ErrLimited = errors.New("too many tries")

	// ErrBusy: too many passwords wait to be hashed. It comes in a [RetryError].
	ErrBusy = hashing.ErrBusy
	// ErrUnavailable: a dependency did not answer, so nothing was decided.
	ErrUnavailable = hashing.ErrUnavailable
)

// RetryError says that nothing was decided, and when to try again. Its Err is [ErrBusy] or [ErrLimited].
type RetryError = hashing.RetryError
