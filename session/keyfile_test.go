package session

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWatchKeys(t *testing.T) {
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
	look := func() *KeySet {
		tick <- time.Time{} // begins to look
		tick <- time.Time{} // has looked
		return ring.Load()
	}
	write(data)
	if look() != first {
		t.Error("the same file was put in use again")
	}
	for name, data := range map[string][]byte{
		"not JSON":                     []byte(`{"keys":`),
		"the key to sign with is gone": encode(mustKeys(t, AlgEdDSA).PublicJSON(issuedAt)),
	} {
		if write(data); look() != first {
			t.Errorf("%s: the keys were replaced", name)
		}
	}
	if err := os.Remove(path); err != nil || look() != first {
		t.Errorf("the file is gone: the keys were replaced (%v)", err)
	}
	second := mustKeys(t, AlgES256)
	write(encode(second.PrivateJSON()))
	if got := look(); got.Keys()[0].ID != second.Keys()[0].ID {
		t.Error("a changed file was not put in use")
	}
	cancel()
	<-ended
}

// Who only verifies has a file of public keys.
func TestWatchPublicKeys(t *testing.T) {
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
		t.Error("a file that is not there was read")
	}
}
