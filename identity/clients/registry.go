package clients

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// readInterval is how often a replica reads the clients. A revoked client is refused after that time at
	// the latest.
	readInterval = 2 * time.Second
	// maxAge is how old the list may be before clients are not answered any more. Otherwise a replica that
	// cannot read the database would accept a revoked client for ever.
	maxAge = 30 * time.Second
	// minAge is the shortest time between two readings.
	minAge = 500 * time.Millisecond
)

// Registry authenticates clients. It holds all clients in memory, because introspection must not wait for the
// database.
type Registry struct {
	Store Store // nil: only the clients of File
	// File holds the clients of the setting CLIENTS_FILE, which take precedence.
	File map[string]Client
	Now  func() time.Time
	Log  *slog.Logger

	reading sync.Mutex // held while the list is read, because many requests may want it at once
	tried   time.Time  // when the latest attempt ended
	failed  error      // of that attempt

	mu   sync.RWMutex
	list map[string]Client
	read time.Time // when the list was read
}

// Run reads the clients again and again until ctx ends.
func (r *Registry) Run(ctx context.Context) {
	tick := time.NewTicker(readInterval)
	defer tick.Stop()
	for {
		if err := r.Read(ctx); err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "the list of clients was not read; an earlier one is good for half a minute", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Read reads the clients, unless another goroutine tried to in the last half second.
func (r *Registry) Read(ctx context.Context) error {
	if r.Store == nil {
		return nil
	}
	r.reading.Lock()
	defer r.reading.Unlock()
	now := r.Now()
	if now.Sub(r.tried) < minAge && !r.tried.IsZero() {
		return r.failed
	}
	var all []Client
	if all, r.failed = r.Store.Clients(ctx); r.failed == nil {
		list := make(map[string]Client, len(all))
		for _, c := range all {
			list[c.ID] = c
		}
		r.mu.Lock()
		r.list, r.read = list, now
		r.mu.Unlock()
	}
	r.tried = r.Now()
	return r.failed
}

// Authenticate returns the client with this id and secret. It returns ErrUnknown, or ErrUnavailable if the
// clients could not be read for too long.
func (r *Registry) Authenticate(ctx context.Context, id, secret string) (Client, error) {
	now, hash := r.Now(), HashOf(secret)
	if c, ok := r.File[id]; ok && c.accepts(hash, now) {
		return c, nil
	} else if ok || r.Store == nil {
		return Client{}, ErrUnknown
	}
	c, age := r.find(id, now)
	// A client that was just added or rotated need not wait for the next reading.
	if age >= maxAge || age >= minAge && !c.accepts(hash, now) {
		if err := r.Read(ctx); err != nil && age >= maxAge {
			return Client{}, fmt.Errorf("authenticate a client: %w", err)
		}
		c, _ = r.find(id, now)
	}
	if c.ID == "" || !c.accepts(hash, now) {
		return Client{}, ErrUnknown
	}
	return c, nil
}

// find returns the client with this id as it was read, or the zero Client, and the age of the list.
func (r *Registry) find(id string, now time.Time) (Client, time.Duration) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list[id], now.Sub(r.read)
}
