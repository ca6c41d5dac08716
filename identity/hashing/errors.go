package hashing

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrBusy: too many passwords wait to be hashed. It comes in a [RetryError].
	ErrBusy = errors.New("too many logins at once")
	// ErrUnavailable: a dependency did not answer, so nothing was decided.
	ErrUnavailable = errors.New("temporarily unavailable")
)

// RetryError says that nothing was decided, and when to try again.
type RetryError struct {
	After time.Duration
	Err   error // [ErrBusy], or why the admit of [Hasher.Enter] refused
}

func (e *RetryError) Error() string { return fmt.Sprintf("%v; retry in %v", e.Err, e.After) }
func (e *RetryError) Unwrap() error { return e.Err }
