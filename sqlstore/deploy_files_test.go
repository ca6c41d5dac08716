package sqlstore_test

import (
	"database/sql"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/storetest"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/ledgertest"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// deployed returns a file of deploy/postgres.
func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../deploy/postgres/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func execute(t *testing.T, db *sqlstore.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.SQL().ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%.200s: %v", s, err)
		}
	}
}

// roles is a database with the roles of roles.sql. Roles belong to the whole server, so those of a test
// have names of their own.
type roles struct {
	url            string
	service, owner string
}

func newRoles(t *testing.T) roles {
	t.Helper()
	id := strings.ToLower(regexp.MustCompile(`\W`).ReplaceAllString(issuer.NewID(), "_"))
	r := roles{url: sqlstoretest.PostgresURL(t), service: "service_" + id, owner: "owner_" + id}
	admin := open(t, r.url, sqlstore.Options{})
	execute(t, admin, r.rename(deployed(t, "roles.sql")))
	t.Cleanup(func() {
		for _, role := range []string{r.service, r.owner} {
			for _, drop := range []string{"DROP OWNED BY " + role + " CASCADE", "DROP ROLE " + role} {
				if _, err := admin.SQL().Exec(drop); err != nil {
					t.Error(err)
				}
			}
		}
	})
	execute(t, admin, "ALTER ROLE "+r.service+" PASSWORD 'secret'", "ALTER ROLE "+r.owner+" PASSWORD 'secret'")
	owner := open(t, r.as(t, r.owner), sqlstore.Options{})
	if err := owner.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute(t, owner, r.rename(deployed(t, "grants.sql")))
	return r
}

func (r *roles) rename(text string) string {
	text = regexp.MustCompile(`\bsessiond_owner\b`).ReplaceAllString(text, r.owner)
	return regexp.MustCompile(`\bsessiond\b`).ReplaceAllString(text, r.service)
}

// as returns the URL of the database for a role.
func (r *roles) as(t *testing.T, role string) string {
	t.Helper()
	u, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "secret")
	return u.String()
}

func TestGrants_AreEnoughForTheService_ASVS_V13_2_1_V13_2_2(t *testing.T) {
	t.Parallel()
	patient := sqlstore.Options{QueryTimeout: 30 * time.Second, PoolTimeout: 30 * time.Second}
	t.Run("sessions", func(t *testing.T) {
		ledgertest.Run(t, func(t *testing.T) (issuer.Ledger, ledgertest.Users) {
			r := newRoles(t)
			db := open(t, r.as(t, r.service), patient)
			return db.Sessions(), ledgerUsers{db}
		})
	})
	t.Run("users", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) (storetest.Store, storetest.Beside) {
			r := newRoles(t)
			db := open(t, r.as(t, r.service), patient)
			return db.Users(), beside{db}
		})
	})
	t.Run("everything else", func(t *testing.T) {
		r := newRoles(t)
		db := open(t, r.as(t, r.service), patient)
		now := time.Now()
		if current, wanted, err := db.MigrationStatus(t.Context()); err != nil || current != wanted {
			t.Errorf("MigrationStatus = %d of %d, %v", current, wanted, err)
		}
		if _, err := db.DeviceSecret(t.Context()); err != nil {
			t.Error(err)
		}
		if err := db.Sessions().BeginEpoch(t.Context(), 1, issuer.Server{ID: "replid/0"}); err != nil {
			t.Error(err)
		}
		if err := db.Sessions().ConfirmEpochs(t.Context(), 1); err != nil {
			t.Error(err)
		}
		for _, chore := range []identity.Chore{identity.ForgetSessions, identity.ForgetAttempts, identity.ForgetEvents, identity.CutSessions, identity.CutAttempts} {
			if _, err := db.Users().Prune(t.Context(), chore, now, now, 1); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestGrants_AreNotMoreThanTheServiceNeeds_ASVS_V13_2_2_V16_4_2(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	db := open(t, r.as(t, r.service), sqlstore.Options{})
	execute(t, db, `INSERT INTO events (at, type, user_id) VALUES (now(), 'user.registered', 'u1')`)
	for _, forbidden := range []string{
		`UPDATE events SET detail = 'forged'`,
		`UPDATE secrets SET name = name`,
		`DELETE FROM secrets`,
		`DELETE FROM retention`,
		`UPDATE goose_db_version SET version_id = 0`,
		`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`,
		`TRUNCATE events`,
		`DROP TABLE sessions`,
		`ALTER TABLE users ADD COLUMN x TEXT`,
		`CREATE TABLE mine (x TEXT)`,
		`CREATE TEMP TABLE mine (x TEXT)`,
		`CREATE SCHEMA mine`,
		`COPY users TO PROGRAM 'cat'`,
		`SET ROLE ` + r.owner,
	} {
		if _, err := db.SQL().ExecContext(t.Context(), forbidden); err == nil {
			t.Errorf("the service may run %s", forbidden)
		} else if !strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(), "must be ") {
			t.Errorf("%s: %v", forbidden, err)
		}
	}
	// A new table needs a line in grants.sql.
	var without []string
	if err := db.SQL().SelectContext(t.Context(), &without, `SELECT tablename FROM pg_tables
		WHERE schemaname = 'public' AND NOT has_table_privilege(schemaname || '.' || tablename, 'SELECT')`); err != nil {
		t.Fatal(err)
	}
	if len(without) > 0 {
		t.Errorf("grants.sql has no line for the tables %v", without)
	}
}

// partitioned returns a migrated database whose history is partitioned by month as partitions.md says.
func partitioned(t *testing.T, db *sqlstore.DB) {
	t.Helper()
	prepare := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(readFile(t, "../deploy/docs/partitions.md"), -1)
	if len(prepare) < 2 {
		t.Fatal("partitions.md has no SQL")
	}
	execute(t, db, deployed(t, "partitions.sql"))
	for statement := range strings.SplitSeq(prepare[0][1], ";\n") { // CREATE INDEX CONCURRENTLY cannot share a transaction
		if statement = strings.TrimSpace(statement); statement != "" {
			execute(t, db, statement)
		}
	}
	execute(t, db, prepare[1][1])
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPartitions_PassContractTests(t *testing.T) {
	t.Parallel()
	t.Run("sessions", func(t *testing.T) {
		ledgertest.Run(t, func(t *testing.T) (issuer.Ledger, ledgertest.Users) {
			db := sqlstoretest.NewPostgres(t)
			partitioned(t, db)
			return db.Sessions(), ledgerUsers{db}
		})
	})
	t.Run("users", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) (storetest.Store, storetest.Beside) {
			db := sqlstoretest.NewPostgres(t)
			partitioned(t, db)
			return db.Users(), beside{db}
		})
	})
}

func TestPartitions_SplitByMonthAndKeepRowsAndIndexes(t *testing.T) {
	t.Parallel()
	h := &history{T: t, db: sqlstoretest.NewPostgres(t), user: newUser("ada"), now: time.Now().UTC().Truncate(time.Microsecond)}
	h.ok(h.db.Users().Create(t.Context(), h.user, time.Time{}, nil))
	old := h.login(400*24*time.Hour, "192.0.2.1")
	_, err := h.db.Sessions().RevokeToken(t.Context(), h.user.ID, old.ID, old.TokenID, old.AccessExpiresAt, old.CreatedAt)
	h.ok(err)
	const definitions = `SELECT replace(replace(indexdef, 'UNIQUE ', ''), ' ONLY ', ' ') FROM pg_indexes
		WHERE tablename IN ('sessions', 'login_attempts') ORDER BY indexname`
	before := h.texts(definitions)
	partitioned(t, h.db)
	if after := h.texts(definitions); !slices.Equal(after, before) {
		t.Errorf("the indexes are\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	place := func(id string) (table string) {
		t.Helper()
		h.ok(h.db.SQL().GetContext(t.Context(), &table, `SELECT tableoid::regclass::text FROM sessions WHERE id = $1`, id))
		return table
	}
	today := h.login(0, "192.0.2.1")
	month := time.Date(h.now.Year(), h.now.Month(), 1, 0, 0, 0, 0, time.UTC)
	first := month.AddDate(0, 1, 0)
	next, last := h.login(h.now.Sub(first), "192.0.2.1"), h.login(h.now.Sub(first.Add(-16*time.Microsecond)), "192.0.2.1")
	far := h.login(h.now.Sub(month.AddDate(0, 40, 0)), "192.0.2.1")
	for id, want := range map[string]string{
		old.ID: "sessions_before", today.ID: "sessions_before", last.ID: "sessions_before",
		next.ID: "sessions" + first.Format("_2006_01"), far.ID: "sessions_default",
	} {
		if got := place(id); got != want {
			t.Errorf("a session is in %s, want %s", got, want)
		}
	}
	h.prune(identity.ForgetSessions, 10, false)
	if n := len(h.texts(`SELECT id FROM sessions_before WHERE id = '` + old.ID + `'`)); n != 0 {
		t.Error("the retention does not delete from partitions")
	}
	drop := `CALL sessiond_drop_month('` + first.Format("2006_01") + `')`
	if _, err := h.db.SQL().ExecContext(t.Context(), drop); err == nil {
		t.Error("a month with an open session was dropped")
	}
	execute(t, h.db, `UPDATE sessions SET expires_at = '2001-01-01', access_expires_at = '2001-01-01' WHERE id = '`+next.ID+`'`, drop)
	if err := h.db.SQL().GetContext(t.Context(), new(string), `SELECT id FROM sessions WHERE id = $1`, next.ID); err != sql.ErrNoRows { //nolint:errorlint // the driver returns it as it is
		t.Errorf("after its month was dropped, reading a session returns %v", err)
	}
}
