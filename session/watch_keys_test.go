package session

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWatchKeys_KeepsOldKeysIfChangedFileIsUnusable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	write := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	encode := func(data []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := mustKeys(t, AlgEdDSA)
	data := encode(first.PrivateJSON())

	ctx, cancel := context.WithCancel(t.Context())
	tick, ended := make(chan time.Time), make(chan struct{})
	ring := NewKeyring(first)
	go func() {
		defer close(ended)
		ring.watch(ctx, tick, path, data, slog.New(slog.DiscardHandler))
	}()
	afterTick := func() *KeySet {
		tick <- time.Time{} // makes watch read the file
		tick <- time.Time{} // is received only after watch has read the file
		return ring.Load()
	}
	write(data)
	if afterTick() != first {
		t.Error("an unchanged file replaced the keys")
	}
	for name, data := range map[string][]byte{
		"not JSON":                   []byte(`{"keys":`),
		"the signing key is missing": encode(mustKeys(t, AlgEdDSA).PublicJSON(issuedAt)),
	} {
		if write(data); afterTick() != first {
			t.Errorf("%s: the changed file replaced the keys", name)
		}
	}
	if err := os.Remove(path); err != nil || afterTick() != first {
		t.Errorf("the removal of the file changed the keys (error %v)", err)
	}
	second := mustKeys(t, AlgES256)
	write(encode(second.PrivateJSON()))
	if got := afterTick(); got.Keys()[0].ID != second.Keys()[0].ID {
		t.Error("a changed file did not replace the keys")
	}
	cancel()
	<-ended
}

// A program that only verifies tokens has a key file with public keys only.
func TestWatchKeys_AcceptsFileWithPublicKeysOnly(t *testing.T) {
	data, err := mustKeys(t, AlgEdDSA).PublicJSON(issuedAt)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	ring, err := WatchKeys(t.Context(), path, nil)
	if err != nil || ring.Load().CanSign() {
		t.Fatal(err)
	}
	if _, err := WatchKeys(t.Context(), path+".gone", nil); err == nil {
		t.Error("WatchKeys returned no error for a missing file")
	}
}
