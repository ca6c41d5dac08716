package session

import (
	"context"
	"fmt"
	"time"
)

// Limit bounds how many checks ask a [Fallback] at once. The channel's capacity is the number of
// places. If a Limit is nil, any number of checks may ask.
type Limit chan struct{}

// Enter waits for a place. It returns a context for the caller's work and a function that frees the
// place. The context ends when timeout has passed since Enter was called. If no place becomes free
// within timeout, Enter returns [ErrUnavailable].
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
