package session

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxWait is how long a check waits for a place. With more waiting checks than places, the last ones
// come first: they still have time left, while the clients of the others may have given up.
const maxWait = 150 * time.Millisecond

// Limit bounds how many checks ask a [Fallback] at once. A nil Limit does not.
type Limit struct {
	places int

	mu      sync.Mutex
	taken   int
	waiting []chan struct{} // oldest first; closed when the place is given
}

// NewLimit returns a limit with this number of places.
func NewLimit(places int) *Limit { return &Limit{places: places} }

// Enter waits for a place, which the caller gives back by Leave. If no place becomes free in time,
// it returns [ErrUnavailable].
func (l *Limit) Enter(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	if l.taken < l.places {
		l.taken++
		l.mu.Unlock()
		return nil
	}
	place := make(chan struct{})
	l.waiting = append(l.waiting, place)
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
	i := slices.Index(l.waiting, place)
	if i < 0 {
		return nil // the place was given in this moment
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	return fmt.Errorf("%w: too many checks at once", ErrUnavailable)
}

// Leave gives the place to the next check.
func (l *Limit) Leave() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.waiting)
	if n == 0 {
		l.taken--
		return
	}
	next := 0
	if n > l.places {
		next = n - 1
	}
	close(l.waiting[next])
	l.waiting = slices.Delete(l.waiting, next, next+1)
}
