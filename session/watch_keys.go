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

// keyFileInterval is the time between two reads of a key file. File notifications are not used,
// because they miss the change of a mounted Kubernetes secret.
const keyFileInterval = time.Second

// WatchKeys returns a Keyring with the JSON Web Key Set of a file. Until ctx ends, the Keyring
// follows each change of the file within a second. A change is logged and ignored if the file is
// not a valid key set, or if it has lost the key that signs. If log is nil, [slog.Default] is used.
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

// watch reads the file at every tick. The parameter last is the content that is already in use.
func (r *Keyring) watch(ctx context.Context, tick <-chan time.Time, path string, last []byte, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		data, err := os.ReadFile(path) //nolint:gosec // G304: the operator configured the file
		if err != nil || bytes.Equal(data, last) {
			continue // the file is unchanged, or missing while it is being replaced
		}
		last = data
		set, err := ParseKeySet(data)
		if err == nil && r.Load().CanSign() && !set.CanSign() {
			err = errors.New("the file has no active key with its private part any more")
		}
		if err != nil {
			log.ErrorContext(ctx, "cannot use the changed key file; the old keys stay in use", "file", filepath.Base(path), "error", err)
			continue
		}
		r.Replace(set)
		log.InfoContext(ctx, "keys replaced", "keys", len(set.Keys()))
	}
}
