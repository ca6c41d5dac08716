package session

import (
	"context"
	"fmt"
	"time"
)

// Limit bounds how many checks ask a [Fallback] at once. Its capacity is that number. A nil Limit
// does not limit.
type Limit chan struct{}

// Enter waits for a place. It returns a context for the work and a function that gives the place
// back. The wait and the work together may take timeout. If no place becomes free in time, Enter
// returns [ErrUnavailable].
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
