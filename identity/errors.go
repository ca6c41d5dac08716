package identity

import (
	"errors"

	"github.com/sessiond/sessiond/identity/hashing"
)

// These are the errors of this package. Any other error, except [FieldErrors], is a fault of the program.
var (
	ErrUsernameTaken = errors.New("username taken")
	ErrEmailTaken    = errors.New("email taken")
	ErrNotFound      = errors.New("user not found")
	ErrWrongPassword = errors.New("wrong password")
	// ErrInvalidToken means that a mailed token is unknown or expired, or was already used or replaced.
	ErrInvalidToken = errors.New("invalid or expired token")
	// ErrPasswordRequired means that a mailed link confirms an email address only with the password of its
	// account, because a later link to the same address exists.
	ErrPasswordRequired = errors.New("a later link to this address exists; the password is required")
	// ErrPasswordChanged means that another request changed the password at the same time.
	ErrPasswordChanged = errors.New("another request changed the password at the same time")
	// ErrRegistrationClosed means that people cannot register by themselves.
	ErrRegistrationClosed = errors.New("registration is closed")
	// ErrSuspended means that the password is right, but an operator has suspended the account.
	ErrSuspended = errors.New("the account is suspended")
	// ErrNotActive means that a registration that is not confirmed yet cannot be suspended or reinstated.
	ErrNotActive    = errors.New("the registration is not confirmed yet")
	ErrMailDisabled = errors.New("no mail server is configured")
	// ErrLimited means that a rate limit refused a request. A [RetryError] wraps it.
	ErrLimited = errors.New("too many tries")

	ErrBusy        = hashing.ErrBusy        // too many requests wait for a password hash; a [RetryError] wraps ErrBusy
	ErrUnavailable = hashing.ErrUnavailable // a database or another dependency did not answer
)

// RetryError says when the client should try again. It wraps [ErrBusy] or [ErrLimited].
type RetryError = hashing.RetryError
