package sqlstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// enoughRows is the number of rows from which on the durations of logins are compared.
const enoughRows = 1_000_000

// TestRetention_PruningDoesNotSlowLogins prunes a tenth of a table of sessions beside logins. A login here
// is what it does in the database; the password hash would hide most of a delay. The default size only
// shows that it works. To measure, name the number of rows:
//
//	SESSIOND_TEST_ROWS=10000000 ./deploy/servers.sh go test ./sqlstore -run PruningDoesNotSlowLogins -v -timeout 2h
func TestRetention_PruningDoesNotSlowLogins(t *testing.T) {
	rows, perSecond, round := 20_000, 20, time.Second
	if text := os.Getenv("SESSIOND_TEST_ROWS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SESSIOND_TEST_ROWS=%q: want a number", text)
		}
		rows, perSecond, round = n, 50, 30*time.Second
	} else {
		t.Parallel()
	}
	url := sqlstoretest.PostgresURL(t)
	db := open(t, url, sqlstore.Options{QueryTimeout: 30 * time.Second})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	users := fill(t, db, url, rows)
	count := func() (n int) {
		t.Helper()
		if err := db.SQL().GetContext(t.Context(), &n, `SELECT count(*) FROM sessions WHERE ip = '203.0.113.77'`); err != nil {
			t.Fatal(err)
		}
		return n
	}

	alone := login(t, db, users, perSecond, time.After(round))
	retention := &identity.Retention{Store: db.Users(), History: 400 * day, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	done := make(chan time.Time)
	var pruned error
	began := time.Now()
	go func() {
		pruned = retention.Remove(t.Context())
		close(done)
	}()
	beside := login(t, db, users, perSecond, done)
	took := time.Since(began)
	if pruned != nil {
		t.Fatal(pruned)
	}
	after := login(t, db, users, perSecond, time.After(round))
	if got, want := count(), rows-rows/10; got != want {
		t.Errorf("%d of %d sessions are left, want %d", got, rows, want)
	}
	var size string
	if err := db.SQL().GetContext(t.Context(), &size, `SELECT pg_size_pretty(pg_total_relation_size('sessions'))`); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows (%s), %d deleted in %v (%.0f a second)", rows, size, rows/10, took.Round(time.Millisecond), float64(rows/10)/took.Seconds())
	for name, d := range map[string][]time.Duration{"before": alone, "beside": beside, "after": after} {
		t.Logf("%s: %d logins, p50 %v, p99 %v, max %v", name, len(d), quantile(d, 0.5), quantile(d, 0.99), quantile(d, 1))
	}
	if without := max(quantile(alone, 0.99), quantile(after, 0.99)); rows >= enoughRows && quantile(beside, 0.99) > 2*without {
		t.Errorf("beside the pruning, p99 of a login is %v; without, it is %v", quantile(beside, 0.99), without)
	}
}

const day = 24 * time.Hour

// fill adds sessions of 1,000 users. One in ten began more than 400 days ago. It returns the usernames.
func fill(t *testing.T, db *sqlstore.DB, url string, rows int) (users []string) {
	t.Helper()
	const people = 1000
	for i := range people {
		u := newUser(fmt.Sprint("user", i))
		if err := db.Users().Create(t.Context(), u, time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
		users = append(users, u.Username)
	}
	slow := open(t, url, sqlstore.Options{QueryTimeout: 2 * time.Hour})
	execute(t, slow, deployed(t, "partitions.sql"), fmt.Sprintf(`
		SET session_replication_role = replica; -- do not check the user of each row
		INSERT INTO sessions (id, user_id, token_id, ip, user_agent, device, amr, generation, created_at, last_seen_at, auth_time,
			access_expires_at, expires_at, max_expires_at, ended_at, end_reason, ended_by, refresh_family, refresh_current)
		SELECT sessiond_id_at(at) || substr(md5(n::text), 1, 22), people.id, substr(md5(n::text), 1, 22), '203.0.113.77',
			'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
			'Chrome on macOS', 'pwd', 1, at, at, at, at + interval '1 hour', at + interval '30 days', at + interval '90 days',
			CASE WHEN n %% 2 = 0 THEN at + interval '1 day' END, CASE WHEN n %% 2 = 0 THEN 'logout' ELSE '' END, '', sha256(n::text::bytea), sha256(('x' || n)::bytea)
		FROM (SELECT n, CASE WHEN n <= %[1]d / 10 THEN now() - interval '401 days' - random() * interval '40 days'
				ELSE now() - interval '399 days' + n::float8 / %[1]d * interval '399 days' END AS at
			FROM generate_series(1, %[1]d) AS n) AS logins
		JOIN (SELECT id, row_number() OVER () - 1 AS i FROM users) AS people ON i = n %% %[2]d
		ORDER BY at;
		SET session_replication_role = DEFAULT;
		ANALYZE sessions`, rows, people))
	return users
}

// login starts sessions of random users at a fixed rate until done, and returns how long each took since it
// was due.
func login(t *testing.T, db *sqlstore.DB, users []string, perSecond int, done <-chan time.Time) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var logins sync.WaitGroup
	defer logins.Wait()
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	for {
		select {
		case <-done:
			logins.Wait()
			return took
		case due := <-ticker.C:
			logins.Go(func() {
				if err := loginOnce(t.Context(), db, users[rand.IntN(len(users))]); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(due))
			})
		}
	}
}

func loginOnce(ctx context.Context, db *sqlstore.DB, username string) error {
	u, err := db.Users().ByUsername(ctx, username)
	if err != nil {
		return err
	}
	start := newStart(u.ID, u.PasswordVersion, time.Now())
	start.Client = issuer.Client{IP: "192.0.2.1", UserAgent: browser, Device: device}
	_, _, err = db.Sessions().Start(ctx, start)
	return err
}

// quantile returns the duration that the share q of all durations does not exceed.
func quantile(durations []time.Duration, q float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(10 * time.Microsecond)
}
