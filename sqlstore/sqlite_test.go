package sqlstore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

func TestOpen_CreatesSQLiteFileThatOnlyOwnerCanRead_ASVS_V13_3_2(t *testing.T) {
	t.Parallel()
	// The file's name has characters that have a special meaning in a URL.
	path := filepath.Join(t.TempDir(), "what? a 100%25 #1 file.db")
	db := open(t, "sqlite:"+path, sqlstore.Options{})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has the mode %v, want 0600", file, mode)
		}
	}
	if len(files) < 2 || files[0] != path { // files also has the log file that SQLite adds
		t.Errorf("the files are %q, want %s and its log", files, path)
	}
}

func TestSQLite_KeepsSessionsAcrossRestart(t *testing.T) {
	t.Parallel()
	url := "sqlite:" + filepath.Join(t.TempDir(), "sessiond.db")
	first, err := sqlstore.Open(t.Context(), url, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	subject := addUser(t, first)
	live, _, err := first.Sessions().Start(t.Context(), newStart(subject, 1, longAgo))
	if err != nil {
		t.Fatal(err)
	}
	ended, _, err := first.Sessions().Start(t.Context(), newStart(subject, 1, longAgo))
	if err != nil {
		t.Fatal(err)
	}
	end := issuer.Ending{At: longAgo.Add(time.Minute), Reason: issuer.ReasonLogout, By: issuer.ByUser}
	if _, _, err := first.Sessions().Revoke(t.Context(), subject, ended.ID, end); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := open(t, url, sqlstore.Options{})
	if err := second.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := second.Sessions().Active(t.Context(), subject, end.At, issuer.Page{})
	if err != nil || len(list) != 1 || list[0] != live {
		t.Errorf("active sessions after the restart: %+v (%v), want %+v", list, err, live)
	}
}
