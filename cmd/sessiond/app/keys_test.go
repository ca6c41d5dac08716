package app

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestKeysNew_DoesNotOverwriteExistingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	keysNew := func() error {
		return Run(t.Context(), []string{"keys", "new", "--out", path}, environment(), io.Discard, io.Discard)
	}
	if err := keysNew(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("other users can read the key file: mode %v, error %v", info.Mode(), err)
	}
	if err := keysNew(); err == nil {
		t.Error("the second run returned no error")
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the second run changed the file, error %v", err)
	}
}
