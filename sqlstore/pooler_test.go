package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/identity/storetest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/ledgertest"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// pgBouncer is a PgBouncer in transaction mode in front of the Postgres of the tests.
type pgBouncer struct{ host string }

// poolerModes are the settings with which PgBouncer treats prepared statements. Before version 1.21,
// and with max_prepared_statements=0, it does not know them, and sends each use to any server.
var poolerModes = []struct {
	name       string
	statements int
}{
	{"without prepared statements", 0},
	{"with prepared statements", 100},
}

// ignoreLimits makes PgBouncer drop the settings that sessiond sends without pgbouncer=true.
const ignoreLimits = "ignore_startup_parameters = default_transaction_isolation, statement_timeout, lock_timeout, idle_in_transaction_session_timeout"

// startPgBouncer starts a PgBouncer. It skips the test if PgBouncer is not installed or knows no prepared
// statements but has to, and fails it in the first case if SESSIOND_TEST_REQUIRE_REAL is 1.
func startPgBouncer(t *testing.T, preparedStatements, poolSize int, more string) pgBouncer {
	t.Helper()
	server, err := url.Parse(sqlstoretest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			const message = "NOT TESTED with PgBouncer, because it is not installed (./deploy/servers.sh installs it)"
			if os.Getenv("SESSIOND_TEST_REQUIRE_REAL") == "1" {
				t.Fatal(message)
			}
			t.Skip(message)
		}
	}
	version, err := exec.CommandContext(t.Context(), program, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`PgBouncer 1\.(1?[0-9]|20)\.`).Match(version) {
		if preparedStatements > 0 {
			t.Skipf("NOT TESTED with prepared statements, because PgBouncer is older than 1.21: %s", version)
		}
	} else {
		more += fmt.Sprintf("\nmax_prepared_statements = %d", preparedStatements)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := free.Addr().String()
	_ = free.Close()
	_, port, _ := net.SplitHostPort(host)
	password, _ := server.User.Password()
	config := filepath.Join(t.TempDir(), "pgbouncer.ini")
	if err := os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = %d
%s
`, server.Hostname(), server.Port(), server.User.Username(), password, port, poolSize, more), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{config}
	if os.Getuid() == 0 { // PgBouncer refuses to run as root
		name := "nobody"
		if _, err := user.Lookup("postgres"); err == nil {
			name = "postgres"
		}
		args = append(args, "-u", name)
	}
	var log strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the end of PgBouncer's log:\n%s", log.String()[max(0, log.Len()-3000):])
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		if conn, err := net.Dial("tcp", host); err == nil {
			_ = conn.Close()
			return pgBouncer{host}
		}
		if time.Now().After(deadline) {
			t.Fatal("PgBouncer did not start")
		}
	}
}

// url returns the URL of a database of the tests, through PgBouncer.
func (b pgBouncer) url(t testing.TB, rawURL string, parameters ...string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host, u.RawQuery = b.host, strings.Join(append(parameters, u.RawQuery), "&")
	return u.String()
}

// openMigrated opens a new database through PgBouncer and migrates it, also through PgBouncer.
func (b pgBouncer) openMigrated(t *testing.T) *sqlstore.DB {
	t.Helper()
	const patience = 30 * time.Second // a test machine may be busy
	db := open(t, b.url(t, sqlstoretest.PostgresURL(t), "pgbouncer=true"), sqlstore.Options{QueryTimeout: patience, PoolTimeout: patience})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestPgBouncer_PassesContractTests(t *testing.T) {
	bouncer := startPgBouncer(t, 0, 20, "")
	t.Run("Sessions", func(t *testing.T) {
		ledgertest.Run(t, func(t *testing.T) (issuer.Ledger, ledgertest.Users) {
			db := bouncer.openMigrated(t)
			return db.Sessions(), ledgerUsers{db}
		})
	})
	t.Run("Users", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) (storetest.Store, storetest.Beside) {
			db := bouncer.openMigrated(t)
			return db.Users(), beside{db}
		})
	})
}

// Three replicas with many connections share a few servers. Every login must find its user and
// succeed. No statement may be another connection's.
func TestPgBouncer_ServesConcurrentLogins(t *testing.T) {
	for _, mode := range poolerModes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			const poolSize, replicas, logins = 3, 3, 120
			bouncer := startPgBouncer(t, mode.statements, poolSize, "")
			rawURL := bouncer.url(t, sqlstoretest.PostgresURL(t), "pgbouncer=true")
			var group errgroup.Group
			group.SetLimit(8 * replicas)
			for replica := range replicas {
				db := open(t, rawURL, sqlstore.Options{MaxConns: 8, QueryTimeout: time.Minute, PoolTimeout: time.Minute})
				if err := errors.Join(db.CheckPooler(t.Context()), db.Migrate(t.Context())); err != nil {
					t.Fatal(err)
				}
				for i := range logins {
					group.Go(func() error { return logIn(t.Context(), db, fmt.Sprintf("user-%d-%d", replica, i)) })
				}
			}
			if err := group.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// logIn registers a user, signs in, checks the session and revokes it.
func logIn(ctx context.Context, db *sqlstore.DB, name string) error {
	u := newUser(name)
	if err := db.Users().Create(ctx, u, time.Time{}, nil); err != nil {
		return err
	}
	found, err := db.Users().ByUsername(ctx, name)
	if err != nil {
		return fmt.Errorf("a user who exists: %w", err)
	}
	if found.ID != u.ID {
		return fmt.Errorf("%s has the id %s, want %s", name, found.ID, u.ID)
	}
	started, _, err := db.Sessions().Start(ctx, newStart(u.ID, 1, longAgo))
	if err != nil {
		return err
	}
	if record, err := db.Sessions().Find(ctx, u.ID, started.ID, longAgo); err != nil || record.ID != started.ID {
		return fmt.Errorf("session %s of %s: got %s, %w", started.ID, name, record.ID, err)
	}
	_, _, err = db.Sessions().Revoke(ctx, u.ID, started.ID, issuer.Ending{At: longAgo, Reason: issuer.ReasonLogout, By: issuer.ByUser})
	return err
}

// A transaction has the limits, and the server that PgBouncer then gives to another client does not.
func TestPgBouncer_LimitsEachTransaction(t *testing.T) {
	const servers = 2 // a migration needs two
	bouncer := startPgBouncer(t, 0, servers, "")
	rawURL := sqlstoretest.PostgresURL(t)
	db := open(t, bouncer.url(t, rawURL, "pgbouncer=true", "lock_timeout=700"), sqlstore.Options{QueryTimeout: 20 * time.Second})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"lock_timeout": "700ms", "statement_timeout": "20s", "idle_in_transaction_session_timeout": "20s", "transaction_isolation": "read committed",
	} {
		if got, err := db.Show(t.Context(), name); err != nil || got != want {
			t.Errorf("in a transaction, %s is %q (%v), want %q", name, got, err, want)
		}
	}
	var transactions []*sqlx.Tx
	for range servers { // each transaction keeps one of the servers busy
		plain, err := db.SQL().BeginTxx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var after string
		if err := plain.GetContext(t.Context(), &after, "SHOW lock_timeout"); err != nil || after != "0" {
			t.Errorf("after the transaction, lock_timeout is %q (%v), want 0", after, err)
		}
		transactions = append(transactions, plain)
	}
	for _, plain := range transactions {
		_ = plain.Rollback()
	}

	subject := addUser(t, db)
	held, release := make(chan struct{}), make(chan struct{})
	holder := open(t, rawURL, sqlstore.Options{QueryTimeout: time.Minute})
	var group errgroup.Group
	group.Go(func() error {
		return holder.LockUsers(t.Context(), func(i int) {
			if i == 1 {
				close(held)
				<-release
			}
		}, subject, subject)
	})
	<-held
	if _, _, err := db.Sessions().Start(t.Context(), newStart(subject, 1, longAgo)); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Start on a locked user = %v, want ErrUnavailable", err)
	}
	var waiting int
	if err := holder.SQL().GetContext(t.Context(), &waiting, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"); err != nil || waiting > 0 {
		t.Errorf("%d statements still wait for the lock (%v)", waiting, err)
	}
	close(release)
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestOpen_PgBouncerNeedsParameter(t *testing.T) {
	bouncer := startPgBouncer(t, 0, 3, "")
	_, err := sqlstore.Open(t.Context(), bouncer.url(t, sqlstoretest.PostgresURL(t)), sqlstore.Options{})
	if err == nil || !strings.Contains(err.Error(), "pgbouncer=true") || !sqlstore.Misconfigured(err) {
		t.Errorf("got %v, want a hint to add pgbouncer=true", err)
	}
}

func TestCheckPooler_FindsPoolerThatLosesStatements(t *testing.T) {
	for _, mode := range poolerModes {
		for _, more := range []string{"", "\nserver_round_robin = 1"} {
			t.Run(mode.name+strings.ReplaceAll(more, "\n", ", "), func(t *testing.T) {
				t.Parallel()
				bouncer := startPgBouncer(t, mode.statements, 20, ignoreLimits+more)
				rawURL := bouncer.url(t, sqlstoretest.PostgresURL(t))
				for range 3 {
					db := open(t, rawURL, sqlstore.Options{})
					err := db.CheckPooler(t.Context())
					if lost := mode.statements == 0; (err != nil) != lost {
						t.Errorf("got %v, want an error: %t", err, lost)
					}
				}
				if mode.statements > 0 {
					db := open(t, rawURL, sqlstore.Options{})
					if err := errors.Join(db.Migrate(t.Context()), logIn(t.Context(), db, "named-statements")); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	t.Run("direct", func(t *testing.T) {
		t.Parallel()
		if err := open(t, sqlstoretest.PostgresURL(t), sqlstore.Options{}).CheckPooler(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
