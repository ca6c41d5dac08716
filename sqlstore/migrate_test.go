package sqlstore_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
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

func TestMigrate_UpgradesEmptyDatabaseToWantedVersion(t *testing.T) {
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
			// Call MigrationStatus twice, because the first call must not create a table.
			for range 2 {
				if current, wanted := status(); current != 0 || wanted == 0 {
					t.Errorf("MigrationStatus of an empty database = %d of %d", current, wanted)
				}
			}
			for range 2 {
				if err := db.Migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
				if current, wanted := status(); current != wanted {
					t.Errorf("Migrate reached version %d of %d", current, wanted)
				}
			}
		})
	}
}

// TestMigrate_KeepsFailedLogins writes a failed login to tables of version 1 and migrates them. On
// SQLite the migration copies the table. The test uses raw SQL, because tables of version 1 lack
// columns that today's code writes.
func TestMigrate_KeepsFailedLogins(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, d.url(t), sqlstore.Options{})
			if err := db.MigrateTo(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			exec := func(query string) error {
				_, err := db.SQL().ExecContext(t.Context(), query)
				return err
			}
			if err := exec(`
				INSERT INTO users (id, username, email, first_name, last_name, password_hash, password_version, status, created_at, updated_at)
				VALUES ('u1', 'ada', 'ada@example.org', '', '', 'hash', 1, 'active', '2001-02-03 04:05:06+00:00', '2001-02-03 04:05:06+00:00')`); err != nil {
				t.Fatal(err)
			}
			if err := exec(`
				INSERT INTO login_attempts (id, user_id, ip, user_agent, device, reason, created_at)
				VALUES ('a1', 'u1', '192.0.2.1', 'agent', 'device', 'wrong_password', '2001-02-03 04:05:06+00:00')`); err != nil {
				t.Fatal(err)
			}
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := make(map[string]any)
			row := db.SQL().QueryRowxContext(t.Context(), `SELECT id, user_id, ip, user_agent, device, reason FROM login_attempts`)
			if err := row.MapScan(got); err != nil {
				t.Fatal(err)
			}
			want := map[string]any{"id": "a1", "user_id": "u1", "ip": "192.0.2.1", "user_agent": "agent", "device": "device", "reason": "wrong_password"}
			if !maps.Equal(got, want) {
				t.Errorf("after migrating, the failed login is %v, want %v", got, want)
			}
			const attemptOf = `INSERT INTO login_attempts (id, user_id, ip, user_agent, device, reason, created_at)
				VALUES ('a2', %s, '', '', '', '', '2001-02-03 04:05:06+00:00')`
			if err := exec(fmt.Sprintf(attemptOf, "'nobody'")); err == nil {
				t.Error("the table accepts an attempt on an account that does not exist")
			}
			if err := exec(fmt.Sprintf(attemptOf, "NULL")); err != nil {
				t.Errorf("the table refuses an attempt without an account: %v", err)
			}
		})
	}
}

// A registration and its link from before migration 7 must still work after it. So must the queued mail.
func TestMigrate_KeepsPendingRegistrations(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, d.url(t), sqlstore.Options{})
			if err := db.MigrateTo(t.Context(), 6); err != nil {
				t.Fatal(err)
			}
			token := identity.TokenHash{1}
			exec := func(query string, args ...any) {
				t.Helper()
				if _, err := db.SQL().ExecContext(t.Context(), db.SQL().Rebind(query), args...); err != nil {
					t.Fatal(err)
				}
			}
			exec(`
				INSERT INTO users (id, username, username_key, email, email_key, first_name, last_name, password_hash, password_version, status, created_at, updated_at)
				VALUES ('u1', 'ada', 'ada', 'Ada@example.org', 'ada@example.org', '', '', 'hash', 1, 'pending', '2001-02-03 04:05:06+00:00', '2001-02-03 04:05:06+00:00')`)
			exec(`
				INSERT INTO mail_tokens (user_id, purpose, hash, issued_at, expires_at)
				VALUES ('u1', 'verify', ?, '2001-02-03 04:05:06+00:00', '2001-02-04 04:05:06+00:00')`, token[:])
			exec(`
				INSERT INTO outbox (topic, user_id, payload, queued_at, due_at)
				VALUES ('mail', 'u1', '{"kind":"verify_email","user":"u1","to":"Ada@example.org","name":"ada"}', '2001-02-03 04:05:06+00:00', '2001-02-03 04:05:06+00:00')`)
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			mails, err := db.Users().DueMail(t.Context(), longAgo, time.Minute, 8)
			if err != nil || len(mails) != 1 || mails[0].Kind != mail.KindConfirmEmail || mails[0].To != "Ada@example.org" {
				t.Errorf("the outbox holds %+v, %v", mails, err)
			}
			if u, err := db.Users().ByEmail(t.Context(), "ADA@example.org"); err != nil || u.Status != identity.StatusPending {
				t.Errorf("got %+v, %v", u, err)
			}
			if err := db.Users().ConfirmEmail(t.Context(), token, false, longAgo); err != nil {
				t.Error(err)
			}
			if u, err := db.Users().ByEmail(t.Context(), "ADA@example.org"); err != nil || u.Status != identity.StatusActive || u.Email != "Ada@example.org" {
				t.Errorf("got %+v, %v", u, err)
			}
		})
	}
}

func TestMigrate_SucceedsOnConcurrentReplicas(t *testing.T) {
	t.Parallel()
	url := sqlstoretest.PostgresURL(t)
	// A trigger makes each statement of the migration slow, so that concurrent migrations without a
	// lock would fail.
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
		// Use the default time limits of production, because they must not apply to migrations.
		db := open(t, url, sqlstore.Options{MaxConns: 2})
		group.Go(func() error {
			if err := db.Migrate(t.Context()); err != nil {
				return err
			}
			current, wanted, err := db.MigrationStatus(t.Context())
			if err == nil && current != wanted {
				t.Errorf("after migrating, the tables have version %d, want %d", current, wanted)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestMigrate_FailsWithCanceledContext(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, d.url(t), sqlstore.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := db.Migrate(ctx); err == nil {
				t.Error("Migrate ignored its canceled context")
			}
		})
	}
}

// Earlier releases had two keys for one domain, and folded the domain like a name.
func TestMigrate_WritesKeysOfInternationalAddressesAnew(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, d.url(t), sqlstore.Options{})
			if err := db.MigrateTo(t.Context(), 8); err != nil {
				t.Fatal(err)
			}
			for id, keys := range map[string][2]string{
				"u1": {"Info@b\u00fccher.example", "info@b\u00fccher.example"},
				"u2": {"info@xn--bcher-kva.example", "info@xn--bcher-kva.example"},
				"u3": {"a@Stra\u00dfe.example", "a@strasse.example"},
				"u4": {"ada@example.org", "ada@example.org"},
				"u5": {"b@xn--bcher-kva.example", "b@xn--bcher-kva.example"},
			} {
				if _, err := db.SQL().ExecContext(t.Context(), db.SQL().Rebind(`
					INSERT INTO users (id, username, username_key, email, email_key, first_name, last_name, password_hash, password_version, status, created_at, updated_at)
					VALUES (?, ?, ?, ?, ?, '', '', 'hash', 1, 'active', '2001-02-03 04:05:06+00:00', '2001-02-03 04:05:06+00:00')`),
					id, id, id, keys[0], keys[1]); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			for address, want := range map[string]string{
				"info@b\u00fccher.example": "u1", "a@stra\u00dfe.example": "u3", "a@strasse.example": "", "ada@example.org": "u4", "b@b\u00fccher.example": "u5",
			} {
				u, err := db.Users().ByEmail(t.Context(), address)
				if u.ID != want || (err == nil) != (want != "") {
					t.Errorf("%s belongs to %q, %v; want %q", address, u.ID, err, want)
				}
			}
		})
	}
}
