package app

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session"
)

func TestKeysNew_DoesNotOverwriteExistingFile_ASVS_V13_3_2(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	keysNew := func(flags ...string) error {
		return Run(t.Context(), append([]string{"keys", "new", "--out", path}, flags...), environment(), io.Discard, io.Discard)
	}
	if err := keysNew("--if-missing"); err != nil {
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
	if err := keysNew("--if-missing"); err != nil {
		t.Errorf("with --if-missing, the third run returned %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the second run changed the file, error %v", err)
	}
}

func TestKeysRevoke_DropsKeyAndLeavesOneThatSigns(t *testing.T) {
	for name, c := range map[string]struct {
		statuses   []session.KeyStatus // of the keys, the oldest first
		revoked    int
		wantSigner int // -1: a new key
	}{
		"a retired key":                         {[]session.KeyStatus{session.KeyRetired, session.KeyActive}, 0, 1},
		"the signing key beside published ones": {[]session.KeyStatus{session.KeyActive, session.KeyPublished, session.KeyPublished}, 0, 2},
		"the signing key beside a retired one":  {[]session.KeyStatus{session.KeyRetired, session.KeyActive}, 1, -1},
		"the only key":                          {[]session.KeyStatus{session.KeyActive}, 0, -1},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.json")
			var keys []session.Key
			for i, status := range c.statuses {
				key, err := newKey(session.AlgES256)
				if err != nil {
					t.Fatal(err)
				}
				key.Status, key.CreatedAt = status, key.CreatedAt.Add(time.Duration(i)*time.Second)
				if status == session.KeyRetired {
					key.RetiredAt = key.CreatedAt
				}
				keys = append(keys, key)
			}
			if err := writeKeys(path, keys...); err != nil {
				t.Fatal(err)
			}
			revoke := func(kid string) error {
				return Run(t.Context(), []string{"keys", "revoke", "--file", path, "--kid", kid}, environment(), io.Discard, io.Discard)
			}
			if err := revoke("none"); err == nil {
				t.Error("an unknown key was revoked")
			}
			if err := revoke(keys[c.revoked].ID); err != nil {
				t.Fatal(err)
			}
			set, err := readKeys(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range set.Keys() {
				if k.ID == keys[c.revoked].ID {
					t.Error("the file still has the revoked key")
				}
				if k.Status != session.KeyActive {
					continue
				}
				if k.Alg != session.AlgES256 || c.wantSigner >= 0 && k.ID != keys[c.wantSigner].ID {
					t.Errorf("the key that signs is %s, created %v", k.ID, k.CreatedAt)
				}
			}
		})
	}
}
