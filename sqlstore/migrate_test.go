package sqlstore_test

import (
	"context"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

func open(t *testing.T, url string, opts sqlstore.Options) *sqlstore.DB {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestMigrate(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, d.url(t), sqlstore.Options{})
			status := func() (current, wanted int64) {
				t.Helper()
				current, wanted, err := db.MigrationStatus(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return current, wanted
			}
			// Asked twice, since asking must not make a table.
			for range 2 {
				if current, wanted := status(); current != 0 || wanted == 0 {
					t.Errorf("an empty database has version %d of %d", current, wanted)
				}
			}
			for range 2 {
				if err := db.Migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
				if current, wanted := status(); current != wanted {
					t.Errorf("migrated to version %d of %d", current, wanted)
				}
			}
		})
	}
}

// TestMigrateKeepsFailedLogins: on SQLite their table is made anew.
func TestMigrateKeepsFailedLogins(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, d.url(t), sqlstore.Options{})
			if err := db.MigrateTo(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			subject := addUser(t, db)
			attempt := identity.Attempt{ID: issuer.NewTimedID(longAgo), UserID: subject, IP: "192.0.2.1", UserAgent: "agent", Device: "device", Reason: "wrong_password", At: longAgo}
			if err := db.Users().RecordAttempt(t.Context(), attempt); err != nil {
				t.Fatal(err)
			}
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			got, err := beside{db}.Attempts(t.Context(), subject)
			if err != nil || len(got) != 1 || got[0] != attempt {
				t.Errorf("afterwards: %+v, %v", got, err)
			}
			if err := db.Users().RecordAttempt(t.Context(), identity.Attempt{ID: issuer.NewTimedID(longAgo), UserID: "nobody", At: longAgo}); err != identity.ErrNotFound { //nolint:errorlint // answers are returned as they are
				t.Errorf("a user who is gone: %v", err)
			}
		})
	}
}

func TestReplicasMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := sqlstoretest.PostgresURL(t)
	// Slow enough that replicas without a lock would run into one another.
	slow := open(t, url, sqlstore.Options{})
	for _, statement := range []string{
		`CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); END'`,
		`CREATE EVENT TRIGGER slow ON ddl_command_end EXECUTE FUNCTION slow()`,
	} {
		if _, err := slow.SQL().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	const replicas = 8
	var group errgroup.Group
	for range replicas {
		// Limits as in production: migrating has none.
		db := open(t, url, sqlstore.Options{MaxConns: 2})
		group.Go(func() error {
			if err := db.Migrate(t.Context()); err != nil {
				return err
			}
			current, wanted, err := db.MigrationStatus(t.Context())
			if err == nil && current != wanted {
				t.Errorf("version %d of %d after migrating", current, wanted)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestMigrateStopsWhenAskedTo(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, d.url(t), sqlstore.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := db.Migrate(ctx); err == nil {
				t.Error("migrated all the same")
			}
		})
	}
}
