package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// keyPoll is how often a key file is looked at. Reading it is the one way to
// notice a change that works for a mounted Kubernetes secret too.
const keyPoll = time.Second

// WatchKeys reads a JSON Web Key Set from a file and puts each later change in
// use within a second, until ctx ends. A change that cannot be used is logged
// and changes nothing; nor does one that takes the key to sign with away. Nil
// log: [slog.Default].
func WatchKeys(ctx context.Context, path string, log *slog.Logger) (*Keyring, error) {
	data, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, fmt.Errorf("session.WatchKeys: %w", err)
	}
	set, err := ParseKeySet(data)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.Default()
	}
	ring := NewKeyring(set)
	go func() {
		tick := time.NewTicker(keyPoll)
		defer tick.Stop()
		ring.watch(ctx, tick.C, path, data, log)
	}()
	return ring, nil
}

// watch looks at every tick at a file of which last is in use.
func (r *Keyring) watch(ctx context.Context, tick <-chan time.Time, path string, last []byte, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		data, err := os.ReadFile(path) //nolint:gosec // G304: as above
		if err != nil || bytes.Equal(data, last) {
			continue // it is being replaced, or it is the same
		}
		last = data
		set, err := ParseKeySet(data)
		if err == nil && r.Load().CanSign() && !set.CanSign() {
			err = errors.New("no active key with its private part to sign with")
		}
		if err != nil {
			log.ErrorContext(ctx, "the changed key file cannot be used; the keys stay as they are", "file", filepath.Base(path), "error", err)
			continue
		}
		r.Replace(set)
		log.InfoContext(ctx, "keys replaced", "keys", len(set.Keys()))
	}
}
