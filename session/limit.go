package session

import "context"

// Limit is a counting semaphore. Its capacity is how many callers may hold a place at once. A nil
// Limit does not limit.
type Limit chan struct{}

// Enter waits for a place, which leave gives back. It reports false if ctx ends first.
func (l Limit) Enter(ctx context.Context) (leave func(), ok bool) {
	if l == nil {
		return func() {}, true
	}
	select {
	case l <- struct{}{}:
		return func() { <-l }, true
	case <-ctx.Done():
		return nil, false
	}
}
