// Package sqlstoretest gives tests a [sqlstore.DB]: on SQLite always, and on real
// Postgres where the environment names one.
//
//	SESSIOND_TEST_POSTGRES_URL   a server on which databases may be made
//
// A test that needs it and does not find it is skipped, and fails instead when
// SESSIOND_TEST_REQUIRE_REAL is 1. Every test has a database of its own.
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
	patience = 30 * time.Second // for a busy machine; nothing waits that long on an idle one
)

// New returns a migrated SQLite database that lasts as long as the test.
func New(t testing.TB) *sqlstore.DB {
	t.Helper()
	return open(t, URL(t))
}

// NewPostgres returns a migrated Postgres database that lasts as long as the test.
func NewPostgres(t testing.TB) *sqlstore.DB {
	t.Helper()
	return open(t, PostgresURL(t))
}

// URL names a SQLite file in the test's directory, which does not exist yet.
func URL(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "sessiond.db")
}

// PostgresURL is the URL of a fresh database without tables, which lasts as long
// as the test.
func PostgresURL(t testing.TB) string {
	t.Helper()
	base := os.Getenv(variable)
	if base == "" {
		const message = "NOT TESTED on real Postgres: " + variable + " is not set"
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

// create makes a database that sorts text as English does, because in production some
// do: what has to sort bytewise has to say so itself.
func create(t testing.TB, base, name string) {
	t.Helper()
	// template0: nobody is ever connected to it, which would be in the way.
	statement := "CREATE DATABASE " + name + " TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
	err := administer(t, base, statement+" LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
	if err != nil { // before version 15, or built without it
		t.Logf("no English: %v", err)
		err = administer(t, base, statement)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// administer runs a statement on the server of the environment, also in a cleanup,
// when the test's own context has ended.
func administer(t testing.TB, base, statement string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
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
	// Under -race, and with other tests on the same cores, a healthy database
	// may need longer than in production.
	db, err := sqlstore.Open(t.Context(), url, sqlstore.Options{QueryTimeout: patience})
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
