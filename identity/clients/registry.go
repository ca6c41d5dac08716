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
)

// Registry authenticates clients. It holds all clients in memory, because introspection must not wait for the
// database.
type Registry struct {
	Store Store // nil: only the clients of File
	// File holds the clients of the setting CLIENTS_FILE, which take precedence.
	File map[string]Client
	Now  func() time.Time
	Log  *slog.Logger

	mu   sync.RWMutex
	list map[string]Client
	read time.Time
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

// Read reads the clients now.
func (r *Registry) Read(ctx context.Context) error {
	if r.Store == nil {
		return nil
	}
	now := r.Now()
	all, err := r.Store.Clients(ctx)
	if err != nil {
		return err
	}
	list := make(map[string]Client, len(all))
	for _, c := range all {
		list[c.ID] = c
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list, r.read = list, now
	return nil
}

// Authenticate returns the client with this id and secret. It returns ErrUnknown, or ErrUnavailable if the
// clients could not be read for too long.
func (r *Registry) Authenticate(ctx context.Context, id, secret string) (Client, error) {
	now := r.Now()
	c, known := r.File[id]
	if !known {
		var err error
		if c, err = r.find(ctx, id, now); err != nil {
			return Client{}, err
		}
	}
	// An unknown id takes as long as a wrong secret, because the zero Client is compared.
	if !c.accepts(HashOf(secret), now) || c.ID == "" {
		return Client{}, ErrUnknown
	}
	return c, nil
}

func (r *Registry) find(ctx context.Context, id string, now time.Time) (Client, error) {
	if r.Store == nil {
		return Client{}, nil
	}
	r.mu.RLock()
	c, age := r.list[id], now.Sub(r.read)
	r.mu.RUnlock()
	if age < maxAge {
		return c, nil
	}
	if err := r.Read(ctx); err != nil {
		return Client{}, fmt.Errorf("authenticate a client: %w", err)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list[id], nil
}
