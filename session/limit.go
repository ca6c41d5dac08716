package session

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxWait is how long a check waits for a place.
const maxWait = 150 * time.Millisecond

// Limit bounds how many checks ask a [Fallback] at once. A nil Limit does not. If more checks wait
// than there are places, the newest one comes first, because it still has time left.
type Limit struct {
	places int

	mu      sync.Mutex
	free    int
	waiting []chan struct{} // oldest first; closed when the check has its place
}

// NewLimit returns a limit with this number of places.
func NewLimit(places int) *Limit { return &Limit{places: places, free: places} }

// Enter waits for a place, which the caller gives back by Leave. If no place becomes free in time,
// it returns [ErrUnavailable].
func (l *Limit) Enter(ctx context.Context) error {
	if l == nil {
		return nil
	}
	place := make(chan struct{})
	l.mu.Lock()
	l.waiting = append(l.waiting, place)
	l.give(0)
	l.mu.Unlock()
	late := time.NewTimer(maxWait)
	defer late.Stop()
	select {
	case <-place:
		return nil
	case <-late.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, place); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		return fmt.Errorf("%w: too many checks at once", ErrUnavailable)
	}
	return nil
}

// Leave gives a place back.
func (l *Limit) Leave() {
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.give(1)
	}
}

// give gives the free places to waiting checks. l.mu is held.
func (l *Limit) give(more int) {
	for l.free += more; l.free > 0 && len(l.waiting) > 0; l.free-- {
		next := 0
		if len(l.waiting) > l.places {
			next = len(l.waiting) - 1
		}
		close(l.waiting[next])
		l.waiting = slices.Delete(l.waiting, next, next+1)
	}
}
