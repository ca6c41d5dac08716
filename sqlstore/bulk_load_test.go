package sqlstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// TestBulk_RevokesManySessionsBesideChecks revokes nine of ten sessions by a filter, on real Postgres and Redis,
// beside checks of the others. It also reads a page of each list. The default size only shows that it works. To
// measure, name the number of sessions, which is also the number of users:
//
//	SESSIOND_TEST_ROWS=1000000 ./deploy/servers.sh go test ./sqlstore -run RevokesManySessions -v -timeout 2h
func TestBulk_RevokesManySessionsBesideChecks(t *testing.T) {
	rows, perSecond, round := 3_000, 50, time.Second
	if text := os.Getenv("SESSIOND_TEST_ROWS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SESSIOND_TEST_ROWS=%q: want a number", text)
		}
		rows, perSecond, round = n, 500, 20*time.Second
	} else {
		t.Parallel()
	}
	measured := rows >= enoughRows
	url := sqlstoretest.PostgresURL(t)
	db := open(t, url, sqlstore.Options{QueryTimeout: 30 * time.Second})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	store := redisstoretest.NewReal(t)
	key, err := session.GenerateKey(session.AlgEdDSA)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := session.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	m := &issuer.Manager{
		Verifier: session.Verifier{
			Keys: session.NewKeyring(keys), Issuer: "i", Audience: "a", Store: store, Now: time.Now, Signatures: session.NewSignatureCache(1 << 17),
			Fallback: &issuer.LedgerFallback{Store: store, Finder: db.Sessions(), Timeout: 10 * time.Second},
		},
		Store: store, Ledger: db.Sessions(), Log: slog.New(slog.DiscardHandler),
		AccessTTL: time.Hour, IdleTTL: 24 * time.Hour, MaxTTL: 48 * time.Hour, RefreshGrace: issuer.NoRefreshLimit,
	}
	m.PollEpochs(t.Context())
	ctx, stop := context.WithCancel(t.Context())
	var background sync.WaitGroup
	background.Go(func() { m.Run(ctx) })
	defer background.Wait()
	defer stop()

	began := time.Now()
	populateMany(t, url, rows)
	t.Logf("%d users and sessions added in %v", rows, time.Since(began).Round(time.Second))
	tokens := keptSessions(t, db, m)
	readPages(t, db, m, measured)

	filter := issuer.Filter{Address: netip.MustParsePrefix("203.0.113.0/24"), UserAgent: "chrome"}
	began = time.Now()
	matched, err := m.Count(t.Context(), filter, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the dry run counted %d sessions in %v", matched, time.Since(began).Round(time.Millisecond))

	check := func(done <-chan time.Time) []time.Duration { return checkTokens(t, m, tokens, perSecond, done) }
	check(time.After(round / 2)) // the first checks of each session
	alone := check(time.After(round))
	var b issuer.Bulk
	done := make(chan time.Time)
	probed := make(chan []time.Duration)
	go func() { probed <- probeLocks(t, db, rows, done) }()
	began = time.Now()
	var took time.Duration
	go func() {
		defer close(done)
		if b, err = m.RevokeBulk(t.Context(), filter, issuer.ReasonAdministrator, func(issuer.Bulk) {}); err != nil {
			t.Error(err)
		}
		took = time.Since(began)
	}()
	beside := check(done)
	locks := <-probed
	after := check(time.After(round))
	if b.State != issuer.BulkDone || b.Matched != matched || b.Revoked != matched || matched != int64(rows-rows/10) {
		t.Errorf("the dry run counted %d of %d sessions, and the real run is %+v", matched, rows, b)
	}
	if left, err := m.Count(t.Context(), issuer.Filter{}, nil); err != nil || left != int64(rows/10+len(tokens)) {
		t.Errorf("%d sessions are left, %v, want %d", left, err, rows/10+len(tokens))
	}
	t.Logf("%d sessions revoked in %v (%.0f a second)", b.Revoked, took.Round(time.Millisecond), float64(b.Revoked)/took.Seconds())
	for name, d := range map[string][]time.Duration{"checks before": alone, "checks beside": beside, "checks after": after, "waits for a user's row": locks} {
		t.Logf("%s: %d, p50 %v, p99 %v, max %v", name, len(d), quantile(d, 0.5), quantile(d, 0.99), quantile(d, 1))
	}
	if without := max(quantile(alone, 0.99), quantile(after, 0.99)); measured && quantile(beside, 0.99) > 2*without {
		t.Errorf("beside the revocation, p99 of a check is %v; without, it is %v", quantile(beside, 0.99), without)
	}
	if worst := quantile(locks, 1); measured && worst > 100*time.Millisecond {
		t.Errorf("a transaction waited %v for the row of a user", worst)
	}
}

// populateMany adds as many users as sessions. One session in ten comes from another network. One user in a
// hundred has the role reader, one in ten thousand is suspended.
func populateMany(t *testing.T, url string, rows int) {
	t.Helper()
	slow := open(t, url, sqlstore.Options{QueryTimeout: 2 * time.Hour})
	execute(t, slow, deployed(t, "partitions.sql"), fmt.Sprintf(`
		SET session_replication_role = replica; -- do not check the user of each row
		INSERT INTO users (id, username, username_key, email, email_key, first_name, last_name, password_hash, password_version, status,
			email_verified_at, created_at, updated_at, roles)
		SELECT substr(md5('u' || n), 1, 22), 'user' || n, 'user' || n, 'user' || n || '@example.org', 'user' || n || '@example.org', '', '', 'hash', 1,
			CASE WHEN n %% 10000 = 1 THEN 'suspended' ELSE 'active' END, now(), now(), now(), CASE WHEN n %% 100 = 0 THEN 'reader' ELSE '' END
		FROM generate_series(1, %[1]d) AS n;
		INSERT INTO user_roles (role, user_id) SELECT 'reader', id FROM users WHERE roles <> '';
		INSERT INTO sessions (id, user_id, token_id, ip, user_agent, device, amr, generation, created_at, last_seen_at, auth_time,
			access_expires_at, expires_at, max_expires_at, refresh_family, refresh_current)
		SELECT sessiond_id_at(at) || substr(md5(n::text), 1, 22), substr(md5('u' || n), 1, 22), substr(md5(n::text), 1, 22),
			CASE WHEN n %% 10 = 0 THEN '198.51.100.' ELSE '203.0.113.' END || n %% 250,
			'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
			'Chrome on macOS', 'pwd', 1, at, at, at, now() + interval '1 hour', now() + interval '30 days', now() + interval '90 days',
			sha256(n::text::bytea), sha256(('x' || n)::bytea)
		FROM (SELECT n, now() - interval '1 day' + n::float8 / %[1]d * interval '23 hours' AS at FROM generate_series(1, %[1]d) AS n) AS logins
		ORDER BY at;
		INSERT INTO events (at, type, user_id, session_id, actor) SELECT created_at, 'session.started', user_id, id, 'user' FROM sessions;
		WITH numbered AS (SELECT seq, row_number() OVER (ORDER BY seq) AS n FROM events)
			UPDATE events SET number = n, previous = '' FROM numbered WHERE numbered.seq = events.seq;
		UPDATE event_chain SET number = (SELECT max(number) FROM events);
		SET session_replication_role = DEFAULT;
		ANALYZE`, rows))
}

// keptSessions starts sessions that no filter of the test selects, and returns their access tokens.
func keptSessions(t *testing.T, db *sqlstore.DB, m *issuer.Manager) (tokens []string) {
	t.Helper()
	for i := range 50 {
		u := newUser(fmt.Sprint("kept", i))
		if err := db.Users().Create(t.Context(), u, time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
		set, _, err := m.Start(t.Context(), issuer.Subject{ID: u.ID, CredentialVersion: 1}, issuer.Client{IP: "192.0.2.1"})
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, set.AccessToken)
	}
	return tokens
}

// checkTokens checks tokens at a fixed rate until done, and returns how long each check took since it was due.
func checkTokens(t *testing.T, m *issuer.Manager, tokens []string, perSecond int, done <-chan time.Time) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var checks sync.WaitGroup
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-done:
			checks.Wait()
			return took
		case due := <-ticker.C:
			token := tokens[i%len(tokens)]
			checks.Go(func() {
				if _, err := m.Verify(t.Context(), token); err != nil {
					t.Errorf("a kept session: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(due))
			})
		}
	}
}

// probeLocks locks the row of a user for update a hundred times a second, until done. It returns how long each took.
func probeLocks(t *testing.T, db *sqlstore.DB, rows int, done <-chan time.Time) (took []time.Duration) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for n := rows; ; n = (n+rows-7)%rows + 1 { // the newest sessions end first
		select {
		case <-done:
			return took
		case <-ticker.C:
		}
		var id string
		if err := db.SQL().GetContext(t.Context(), &id, `SELECT substr(md5('u' || $1::int), 1, 22)`, n); err != nil {
			t.Error(err)
			return took
		}
		began := time.Now()
		if err := db.LockUsers(t.Context(), func(int) {}, id); err != nil {
			t.Error(err)
		}
		took = append(took, time.Since(began))
	}
}

// readPages reads a page of each list of operators. Each takes at most 100 ms, whatever the filter selects.
func readPages(t *testing.T, db *sqlstore.DB, m *issuer.Manager, measured bool) {
	t.Helper()
	users := func(q identity.UserQuery) func() error {
		q.Limit = 101
		return func() error { _, err := db.Users().Find(t.Context(), q); return err }
	}
	sessions := func(f issuer.Filter) func() error {
		return func() error { _, _, err := m.Search(t.Context(), f, issuer.Page{Limit: 100}); return err }
	}
	events := func(q audit.Query) func() error {
		q.Limit = 100
		return func() error { _, err := db.Events().Events(t.Context(), q); return err }
	}
	var id string
	if err := db.SQL().GetContext(t.Context(), &id, `SELECT substr(md5('u1'), 1, 22)`); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, read := range map[string]func() error{
		"all users":                 users(identity.UserQuery{}),
		"users by name":             users(identity.UserQuery{Prefix: "user12"}),
		"users by address":          users(identity.UserQuery{Prefix: "user12@"}),
		"a rare status":             users(identity.UserQuery{Status: identity.StatusSuspended}),
		"a frequent status":         users(identity.UserQuery{Status: identity.StatusActive}),
		"a status of nobody":        users(identity.UserQuery{Status: identity.StatusPending}),
		"a role":                    users(identity.UserQuery{Role: "reader"}),
		"a role of nobody":          users(identity.UserQuery{Role: "admin"}),
		"a role and a rare status":  users(identity.UserQuery{Role: "reader", Status: identity.StatusSuspended}),
		"a name and a rare role":    users(identity.UserQuery{Prefix: "user9", Role: "reader"}),
		"all sessions":              sessions(issuer.Filter{}),
		"sessions of one user":      sessions(issuer.Filter{Subject: id}),
		"sessions of a network":     sessions(issuer.Filter{Address: netip.MustParsePrefix("198.51.100.0/24")}),
		"sessions of no network":    sessions(issuer.Filter{Address: netip.MustParsePrefix("10.0.0.0/8")}),
		"sessions of no user agent": sessions(issuer.Filter{UserAgent: "curl"}),
		"old sessions":              sessions(issuer.Filter{CreatedBefore: now.Add(-23 * time.Hour)}),
		"unused sessions":           sessions(issuer.Filter{SeenBefore: now.Add(-1000 * time.Hour)}),
		"all events":                events(audit.Query{}),
		"the last events":           events(audit.Query{After: 2_900}),
		"events of a type":          events(audit.Query{Type: "session.started"}),
		"events of no type":         events(audit.Query{Type: "user.suspended"}),
		"events of one user":        events(audit.Query{UserID: id}),
		"numbers":                   func() error { _, err := db.Numbers(t.Context(), now); return err },
	} {
		var best time.Duration
		for i := range 3 {
			began := time.Now()
			if err := read(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(began); i == 0 || took < best {
				best = took
			}
		}
		if measured {
			t.Logf("page of %s: %v", name, best.Round(10*time.Microsecond))
			if best > 100*time.Millisecond {
				t.Errorf("a page of %s took %v", name, best)
			}
		}
	}
}

// No list of operators reads a whole table, however large the tables are.
func TestLists_ReadIndexes(t *testing.T) {
	t.Parallel()
	url := sqlstoretest.PostgresURL(t)
	db := open(t, url, sqlstore.Options{})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	populateMany(t, url, 2_000)
	plans, err := db.ExplainLists(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(plans) < 15 {
		t.Fatalf("%d statements, so this test sees too little", len(plans))
	}
	for name, plan := range plans {
		// An incremental sort stops at the limit. One user has few events and sessions, and few claim one address.
		sorts := strings.Contains(strings.ReplaceAll(plan, "Incremental Sort", ""), "Sort  (cost") &&
			name != "events of a user" && name != "search by user" && name != "findByClaim"
		if strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "Index") || sorts {
			t.Errorf("%s reads or sorts a whole table:\n%s", name, plan)
		}
	}
}
