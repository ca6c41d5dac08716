package session

import (
	"context"
	"fmt"
	"time"
)

// Limit bounds how many checks ask a [Fallback] at once. The channel's capacity is that number. A
// nil Limit allows any number.
type Limit chan struct{}

// Enter waits until the limit allows one more check. It returns a context for the check, which ends
// when timeout has passed since Enter was called, and a function leave, which the caller must call
// after the check. If the wait takes longer than timeout, Enter returns [ErrUnavailable].
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
		return nil, nil, fmt.Errorf("%w: too many token checks at once", ErrUnavailable)
	}
}
