package app

import (
	"bytes"
	"database/sql"
	"io"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/lib/pq"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

func TestServe_RefusesToStartWithoutDeviceSecret(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := writeKey(keys, session.AlgEdDSA); err != nil {
		t.Fatal(err)
	}
	url := sqlstoretest.PostgresURL(t)
	env := environment("DATABASE_URL="+url, "REDIS_URL=redis://127.0.0.1:1", "SIGNING_KEYS_FILE="+keys,
		"ISSUER=https://id.example", "PUBLIC_URL=https://id.example", "ADDR=127.0.0.1:0", "METRICS_ADDR=")
	if err := Run(t.Context(), []string{"migrate"}, environment("DATABASE_URL="+url), io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct{ statement, want string }{
		{`INSERT INTO secrets (name, value, created_at) VALUES ('device_tokens', '', now())`, "device_tokens"},
		{`DROP TABLE secrets`, "secret of device tokens"},
	} {
		if _, err := db.ExecContext(t.Context(), c.statement); err != nil {
			t.Fatal(err)
		}
		var out, logs bytes.Buffer
		err := Run(t.Context(), []string{"serve"}, env, &out, &logs)
		if err == nil || !strings.HasPrefix(err.Error(), "SESSIOND_DATABASE_URL: ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("after %s: got %v, want one line with %q", c.statement, err, c.want)
		}
	}
}
