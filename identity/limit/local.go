package limit

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Local is a [Limiter] in memory. It holds so many keys at most; for one more it
// gives up that which would be forgotten next, so that a flood of keys drives
// out what is forgotten already, then other keys of the flood, and last the long
// memory of a name under attack.
type Local struct {
	most int

	mu      sync.Mutex
	entries map[place]*entry
	next    byTime
}

var _ Limiter = (*Local)(nil)

// place is a key without what its rule says.
type place struct{ rule, id string }

type entry struct {
	place
	state     State
	forgotten int64
	index     int // in the heap
}

// NewLocal returns a Local of at most so many keys.
func NewLocal(most int) *Local {
	return &Local{most: most, entries: map[place]*entry{}}
}

// Len is how many keys are held.
func (l *Local) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// Charge implements [Limiter].
func (l *Local) Charge(_ context.Context, now time.Time, keys []Key) (Decision, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	after, d := Decide(now, keys, l.states(keys))
	for i, k := range keys {
		l.set(k, after[i])
	}
	return d, nil
}

// Refund implements [Limiter].
func (l *Local) Refund(_ context.Context, now time.Time, keys []Key) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.states(keys) {
		l.set(keys[i], keys[i].Rule.refund(s, now.UnixMilli()))
	}
	return nil
}

// Clear implements [Limiter].
func (l *Local) Clear(_ context.Context, keys []Key) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		l.set(k, State{})
	}
	return nil
}

func (l *Local) states(keys []Key) []State {
	states := make([]State, len(keys))
	for i, k := range keys {
		if e := l.entries[place{k.Rule.Name, k.ID}]; e != nil {
			states[i] = e.state
		}
	}
	return states
}

func (l *Local) set(k Key, s State) {
	at := place{k.Rule.Name, k.ID}
	e := l.entries[at]
	switch {
	case s == State{}:
		if e != nil {
			l.drop(e)
		}
	case e != nil:
		e.state, e.forgotten = s, k.Rule.forgotten(s)
		heap.Fix(&l.next, e.index)
	default:
		if len(l.entries) >= l.most {
			l.drop(l.next[0])
		}
		e = &entry{place: at, state: s, forgotten: k.Rule.forgotten(s)}
		l.entries[at] = e
		heap.Push(&l.next, e)
	}
}

func (l *Local) drop(e *entry) {
	heap.Remove(&l.next, e.index)
	delete(l.entries, e.place)
}

// byTime is a heap of entries; the first is forgotten next.
type byTime []*entry

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return h[i].forgotten < h[j].forgotten }
func (h byTime) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *byTime) Push(e any) {
	e.(*entry).index = len(*h)
	*h = append(*h, e.(*entry))
}

func (h *byTime) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
