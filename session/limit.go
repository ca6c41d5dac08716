package session

import (
	"context"
	"fmt"
	"time"
)

// Limit bounds how many callers do something at once: its capacity. A nil Limit does not limit.
type Limit chan struct{}

// Enter waits for a place. It returns a context that ends after timeout, the wait included, and
// leave, which gives the place back. If no place is free before that, the error is
// [ErrUnavailable].
func (l Limit) Enter(ctx context.Context, timeout time.Duration) (limited context.Context, leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	if l == nil {
		return ctx, cancel, nil
	}
	select {
	case l <- struct{}{}:
		return ctx, func() { cancel(); <-l }, nil
	case <-ctx.Done():
		cancel()
		return nil, nil, fmt.Errorf("%w: too many checks at once", ErrUnavailable)
	}
}
