package session

import (
	"errors"
	"sync/atomic"
)

// Counts counts checks and their results.
type Counts struct {
	// Checks counts the checks that needed a verdict. A token that is malformed, badly signed or expired
	// does not count.
	Checks    atomic.Uint64
	Fallbacks atomic.Uint64 // the checks that the Store could not answer

	// Each check that has returned counts in one of these. Invalid also counts the tokens that did not
	// need a verdict. Canceled counts the checks whose caller gave up before there was a result.
	Active, Revoked, Invalid, Unavailable, Canceled atomic.Uint64
}

// returned counts a check that returned err. The receiver may be nil.
func (c *Counts) returned(err error) {
	switch {
	case c == nil:
	case err == nil:
		c.Active.Add(1)
	case errors.Is(err, ErrRevoked):
		c.Revoked.Add(1)
	case errors.Is(err, ErrInvalidToken):
		c.Invalid.Add(1)
	case errors.Is(err, ErrUnavailable):
		c.Unavailable.Add(1)
	default:
		c.Canceled.Add(1)
	}
}
