package hashing

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrBusy means that too many requests wait for a password hash. A [RetryError] wraps ErrBusy.
	ErrBusy = errors.New("too many logins at once")
	// ErrUnavailable means that a dependency, such as a database, did not answer.
	ErrUnavailable = errors.New("temporarily unavailable")
)

// RetryError says that the password was not checked, and when the client should try again.
type RetryError struct {
	After time.Duration
	Err   error // [ErrBusy], or why the function admit that was passed to [Hasher.Enter] refused the request
}

func (e *RetryError) Error() string { return fmt.Sprintf("%v; retry in %v", e.Err, e.After) }
func (e *RetryError) Unwrap() error { return e.Err }
