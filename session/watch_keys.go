package session

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// keyFileInterval is how often a key file is read. Polling also notices the change of a mounted
// Kubernetes secret, which file notifications miss.
const keyFileInterval = time.Second

// WatchKeys returns a keyring with the JSON Web Key Set of a file. It uses each later change of the
// file within a second, until ctx ends. It logs and ignores a change that cannot be read, or that
// removes the signing key of a set that had one. Nil log: [slog.Default].
func WatchKeys(ctx context.Context, path string, log *slog.Logger) (*Keyring, error) {
	data, err := os.ReadFile(path) //nolint:gosec // G304: the operator configured the file
	if err != nil {
		return nil, fmt.Errorf("session.WatchKeys: %w", err)
	}
	set, err := ParseKeySet(data)
	if err != nil {
		return nil, err
	}
	log = cmp.Or(log, slog.Default())
	ring := NewKeyring(set)
	go func() {
		tick := time.NewTicker(keyFileInterval)
		defer tick.Stop()
		ring.watch(ctx, tick.C, path, data, log)
	}()
	return ring, nil
}

// watch reads the file at every tick. The content last is already in use.
func (r *Keyring) watch(ctx context.Context, tick <-chan time.Time, path string, last []byte, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		data, err := os.ReadFile(path) //nolint:gosec // G304: as above
		if err != nil || bytes.Equal(data, last) {
			continue // the file is unchanged, or missing while it is being replaced
		}
		last = data
		set, err := ParseKeySet(data)
		if err == nil && r.Load().CanSign() && !set.CanSign() {
			err = errors.New("no active key with a private part")
		}
		if err != nil {
			log.ErrorContext(ctx, "cannot use the changed key file; the old keys stay in use", "file", filepath.Base(path), "error", err)
			continue
		}
		r.Replace(set)
		log.InfoContext(ctx, "keys replaced", "keys", len(set.Keys()))
	}
}
