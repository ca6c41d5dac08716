package hashing

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrBusy: too many passwords wait to be hashed. It comes as a [RetryError].
	ErrBusy = errors.New("too many logins at once")
	// ErrUnavailable: a dependency did not answer, so nothing was decided.
	ErrUnavailable = errors.New("temporarily unavailable")
)

// RetryError says that nothing was decided, and when to try again.
type RetryError struct {
	After time.Duration
	Err   error // [ErrBusy], or the reason for which Enter's admit refused
}

func (e *RetryError) Error() string { return fmt.Sprintf("%v; again in %v", e.Err, e.After) }
func (e *RetryError) Unwrap() error { return e.Err }
