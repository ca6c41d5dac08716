// Package sqlstoretest opens a [sqlstore.DB] for a test, on SQLite or on a Postgres server that the
// environment names:
//
//	SESSIOND_TEST_POSTGRES_URL   a server on which the user may create databases
//
// If the variable is missing, tests that need Postgres are skipped, or fail if
// SESSIOND_TEST_REQUIRE_REAL is 1. Every test has its own database.
package sqlstoretest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/lib/pq" // the driver "postgres"

	"github.com/sessiond/sessiond/sqlstore"
)

const (
	variable = "SESSIOND_TEST_POSTGRES_URL"
	timeout  = 30 * time.Second // limits one method call; 30 s, because a test machine may be busy
)

// New returns a migrated SQLite database, which is closed when the test ends.
func New(t testing.TB) *sqlstore.DB {
	t.Helper()
	return open(t, URL(t))
}

// NewPostgres returns a migrated Postgres database, which is deleted when the test ends.
func NewPostgres(t testing.TB) *sqlstore.DB {
	t.Helper()
	return open(t, PostgresURL(t))
}

// URL returns the URL of a SQLite file in the test's directory. The file does not exist yet.
func URL(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "sessiond.db")
}

// PostgresURL returns the URL of a new database without tables, which is deleted
// when the test ends.
func PostgresURL(t testing.TB) string {
	t.Helper()
	base := os.Getenv(variable)
	if base == "" {
		const message = "NOT TESTED on real Postgres, because " + variable + " is not set"
		if os.Getenv("SESSIOND_TEST_REQUIRE_REAL") == "1" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	u, err := url.Parse(base)
	if err != nil {
		t.Fatalf("%s is not a URL", variable) // the error may quote the password
	}
	name := "sessiond_test_" + strings.ToLower(rand.Text())
	create(t, base, name)
	t.Cleanup(func() {
		if err := administer(t, base, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	u.Path = "/" + name
	return u.String()
}

// create creates a database that sorts text by English rules, as some production databases do. With
// it, a test fails if a column that must be sorted bytewise has no explicit collation.
func create(t testing.TB, base, name string) {
	t.Helper()
	// Use template0, because CREATE DATABASE fails if a client is connected to the template.
	statement := "CREATE DATABASE " + name + " TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
	err := administer(t, base, statement+" LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
	if err != nil { // this Postgres is older than version 15 or was built without ICU
		t.Logf("this Postgres cannot sort by English rules: %v", err)
		err = administer(t, base, statement)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// administer runs a statement on the Postgres server. It also works in a cleanup, when the test's
// context is already canceled.
func administer(t testing.TB, base, statement string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), timeout)
	defer cancel()
	server, err := sql.Open("postgres", base)
	if err != nil {
		return err
	}
	defer server.Close()
	if _, err := server.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

func open(t testing.TB, url string) *sqlstore.DB {
	t.Helper()
	// Use a long timeout, because the race detector and other tests make a healthy database slow.
	db, err := sqlstore.Open(t.Context(), url, sqlstore.Options{QueryTimeout: timeout, PoolTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}
