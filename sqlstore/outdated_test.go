package sqlstore_test

import (
	"database/sql"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// While the service runs, the type of a column changes, or the server forgets the prepared statements.
// Every call must succeed, whether it is one statement or a transaction, on every connection.
func TestDB_SurvivesOutdatedStatements(t *testing.T) {
	const conns, rounds = 4, 16
	for name, statement := range map[string]string{
		"the type of a column of users changes":    `ALTER TABLE users ALTER COLUMN email TYPE varchar(400)`,
		"the type of a column of sessions changes": `ALTER TABLE sessions ALTER COLUMN device TYPE varchar(400)`,
		"the server forgets the statements":        `DEALLOCATE ALL`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const patience = 30 * time.Second // a test machine may be busy
			db := open(t, sqlstoretest.PostgresURL(t), sqlstore.Options{MaxConns: conns, QueryTimeout: patience, PoolTimeout: patience})
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			subject := addUser(t, db)
			started, _, err := db.Sessions().Start(t.Context(), newStart(subject, 1, longAgo))
			if err != nil {
				t.Fatal(err)
			}
			use := func() {
				t.Helper()
				var group errgroup.Group
				for range rounds {
					group.Go(func() error { _, err := db.Users().ByID(t.Context(), subject); return err })
					group.Go(func() error { _, err := db.Sessions().Find(t.Context(), subject, started.ID, longAgo); return err })
					group.Go(func() error {
						_, err := db.Sessions().Active(t.Context(), subject, longAgo, issuer.Page{})
						return err
					})
					group.Go(func() error {
						_, _, err := db.Sessions().Start(t.Context(), newStart(subject, 1, longAgo))
						return err
					})
				}
				if err := group.Wait(); err != nil {
					t.Error(err)
				}
			}
			use()
			var all []*sql.Conn
			for range conns { // DEALLOCATE must run on each connection
				conn, err := db.SQL().DB.Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, conn)
				if _, err := conn.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			for _, conn := range all {
				_ = conn.Close()
			}
			use()
			active, err := db.Sessions().Active(t.Context(), subject, longAgo, issuer.Page{})
			if want := 1 + 2*rounds; err != nil || len(active) != want {
				t.Errorf("got %d sessions (%v), want %d", len(active), err, want)
			}
		})
	}
}
