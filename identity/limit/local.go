package limit

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"
)

// Local is a [Limiter] in memory that holds a bounded number of keys. If it is full, a new key replaces
// the key that expires first. So a flood of new keys replaces expired keys and then other keys of the
// flood, but not the backoff counter of an attacked account, because that counter expires late.
type Local struct {
	most int

	mu      sync.Mutex
	entries map[keyName]*entry
	next    byExpiry
}

var _ Limiter = (*Local)(nil)

// keyName identifies a key by its rule's name and its ID.
type keyName struct{ rule, id string }

type entry struct {
	keyName
	state  State
	expiry int64 // Unix milliseconds
	index  int   // position in the heap
}

// NewLocal returns a Local that holds at most the given number of keys.
func NewLocal(most int) *Local {
	return &Local{most: most, entries: map[keyName]*entry{}}
}

// Len returns how many keys the Local holds.
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
		if e := l.entries[keyName{k.Rule.Name, k.ID}]; e != nil {
			states[i] = e.state
		}
	}
	return states
}

func (l *Local) set(k Key, s State) {
	name := keyName{k.Rule.Name, k.ID}
	e := l.entries[name]
	switch {
	case s == State{}:
		if e != nil {
			l.drop(e)
		}
	case e != nil:
		e.state, e.expiry = s, k.Rule.expiry(s)
		heap.Fix(&l.next, e.index)
	default:
		if len(l.entries) >= l.most {
			l.drop(l.next[0])
		}
		e = &entry{keyName: name, state: s, expiry: k.Rule.expiry(s)}
		l.entries[name] = e
		heap.Push(&l.next, e)
	}
}

func (l *Local) drop(e *entry) {
	heap.Remove(&l.next, e.index)
	delete(l.entries, e.keyName)
}

// byExpiry is a heap of entries. The first entry expires first.
type byExpiry []*entry

func (h byExpiry) Len() int           { return len(h) }
func (h byExpiry) Less(i, j int) bool { return h[i].expiry < h[j].expiry }
func (h byExpiry) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *byExpiry) Push(e any) {
	e.(*entry).index = len(*h)
	*h = append(*h, e.(*entry))
}

func (h *byExpiry) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	*h = slices.Delete(*h, last, last+1)
	return e
}
