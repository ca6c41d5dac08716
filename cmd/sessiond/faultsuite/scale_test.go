package faultsuite

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiond/sessiond/redisstore"
	tokens "github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// The tests in this file show that the promise also holds for many sessions. Their sessions are put
// into Postgres by SQL, because so many logins would take hours.

const (
	// readsAtOnce and connections are the bounds of one replica with the default DATABASE_MAX_CONNS:
	// half of its 20 connections may read sessions for checks, and the epochs have two more.
	readsAtOnce = 10
	connections = 22
)

// TestScale_FullSpeedAfterFailover: a Sentinel failover begins an epoch, in which every live session
// is unknown to Redis until it was read from Postgres once. Nevertheless the service is back at full
// speed 5 s after the failover, and reads no more from Postgres at once than its bound.
func TestScale_FullSpeedAfterFailover(t *testing.T) {
	if !isLong() {
		t.Skip("runs in the long form, because 200,000 sessions take their time: SESSIOND_TEST_LONG=1")
	}
	const (
		before = 15 * time.Second
		soon   = 5 * time.Second
		after  = 30 * time.Second
		slower = 5    // the p99 after the failover may be this many times that before it
		noise  = 0.95 // the part of the checks of a second that must be answered in it
	)
	dir := tempDir(t)
	r := startRig(t, dir, startPostgres(t, dir), sentinel)
	db := r.watcher(t)
	c := r.seed(t, db, 10_000, 100_000, 100_000)
	postgres := watchPostgres(t, db)
	began := time.Now()
	c.fill(t, db, r)
	t.Logf("Redis has %v keys after %v", r.master().do("DBSIZE"), time.Since(began).Round(time.Second))

	pause(t, 2*time.Second) // Postgres publishes its statistics each second
	readsBefore, epochBefore := query(t, db, readsSoFar), query(t, db, latestEpoch)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var checks []sample
	var failedOver atomic.Bool
	var live atomic.Int64 // checks of live sessions since the failover
	load := newLoad(r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		checks = steadily(ctx, *rate, func(i int) answer {
			n := rand.IntN(c.live + c.revoked)
			if n < c.live && failedOver.Load() {
				live.Add(1)
			}
			return c.check(load.browser, n, r.replicas[i%3])
		})
	}()
	pause(t, 2*time.Second)
	start := time.Now()
	pause(t, before)
	old := r.master()
	killed := time.Now()
	old.kill()
	failedOver.Store(true)
	await(t, "the Sentinels agree on another master", func() bool { m := r.master(); return m != nil && m != old })
	promoted := time.Now()
	old.restart()
	pause(t, soon+after)
	stop()
	<-done
	load.browser.CloseIdleConnections()
	pause(t, 2*time.Second)
	reads, epoch := query(t, db, readsSoFar)-readsBefore, query(t, db, latestEpoch)

	usual, usually := sum(within(checks, start, killed)), least(checks, start, killed)
	between := sum(within(checks, killed, promoted))
	first := sum(within(checks, promoted, promoted.Add(soon)))
	later, lately := sum(within(checks, promoted.Add(soon), promoted.Add(soon+after))), least(checks, promoted.Add(soon), promoted.Add(soon+after))
	last := time.Duration(0)
	for _, s := range checks {
		if s.answer == unavailable {
			last = max(last, s.end().Sub(promoted))
		}
	}
	wrong := usual.wrong + between.wrong + first.wrong + later.wrong
	t.Logf("scale, failover: %d live and %d revoked sessions, %d checks/s"+
		" · before: %d of %d answered, at least %d a second, p99 %v"+
		" · until the promotion, %v: %d of %d answered · in the %v after it: %d of %d, the last one without an answer %v after it"+
		" · in the %v after that: %d of %d answered, at least %d a second, p99 %v (limit %d times)"+
		" · wrong answers %d · epoch %d to %d, %d reads of Postgres for %d checks of live sessions since the failover began"+
		" · reads at once at most %d (bound %d), connections %d (bound %d)",
		c.live, c.revoked, *rate, usual.answered, usual.all, usually, ms(usual.p99),
		ms(promoted.Sub(killed)), between.answered, between.all, soon, first.answered, first.all, ms(last),
		after, later.answered, later.all, lately, ms(later.p99), slower,
		wrong, epochBefore, epoch, reads, live.Load(),
		postgres.reads.Load(), 3*readsAtOnce, postgres.connections.Load(), 3*connections)
	if wrong > 0 {
		t.Errorf("%d checks had a wrong answer", wrong)
	}
	if epoch <= epochBefore {
		t.Errorf("no epoch began, so no session became unknown")
	}
	if later.answered < later.all || float64(lately) < noise*float64(usually) || later.p99 > slower*usual.p99 {
		t.Errorf("not at full speed %v after the failover", soon)
	}
	if postgres.reads.Load() > 3*readsAtOnce || postgres.connections.Load() > 3*connections {
		t.Errorf("Postgres was asked above the bound")
	}
	if t.Failed() {
		t.Log(r.complaints())
	}
}

// TestScale_RevokeAllOfManySessions: to revoke all sessions of a user with 10,000 of them takes at
// most a second and three Redis commands, and hardly delays the logins of other users.
func TestScale_RevokeAllOfManySessions(t *testing.T) {
	users, each, between := 3, 500, 300*time.Millisecond
	if isLong() {
		users, each, between = 25, 10_000, 2*time.Second
	}
	const perSecond = 8
	dir := tempDir(t)
	r := startRig(t, dir, startPostgres(t, dir), single)
	db := r.watcher(t)
	c := r.seed(t, db, users, users*each, 0)
	load := newLoad(r)
	defer load.browser.CloseIdleConnections()
	people := load.enrol(t, 6, 1)
	for n := range 20 * users { // Redis knows some sessions of each user
		c.untilRight(t, load.browser, n, r.replicas[n%3])
	}
	m := startMonitor(t, r.nodes[0])

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var logins []sample
	done := make(chan struct{})
	go func() {
		defer close(done)
		logins = steadily(ctx, perSecond, func(i int) answer {
			p := people[i%len(people)]
			reply := load.browser.send("POST", r.replicas[i%3].base()+"/v1/sessions", "", object{"login": p.name, "password": startPassword})
			if reply.status == 201 {
				return good
			}
			return unavailable
		})
	}()
	pause(t, between)
	var requests []sample
	var commands []int // of each request
	checking := 0
	for n := range users {
		from := m.mark()
		due := time.Now()
		reply := load.browser.send("DELETE", r.replicas[n%3].base()+"/v1/sessions", c.token(n), nil)
		requests = append(requests, sample{due, time.Since(due), reply.answer()})
		if want := fmt.Sprintf(`{"revoked":%d}`, each); reply.status != 503 && strings.TrimSpace(string(reply.body)) != want {
			t.Errorf("status %d: %.200s, want %s", reply.status, reply.body, want)
		}
		pause(t, between)
		revoking, check := commandsOf(m.between(from, m.mark()), c.user(n))
		commands, checking = append(commands, len(revoking)), max(checking, check)
		if len(revoking) > 3 {
			t.Logf("the revocation took these Redis commands: %q", revoking)
		}
	}
	stop()
	<-done

	accepted := 0 // after an acknowledged revocation
	for n := range 20 * users {
		if requests[n%users].answer == good && load.browser.send("GET", r.replicas[(n+1)%3].base()+"/v1/verify", c.token(n), nil).status == 200 {
			accepted++
		}
	}
	var beside, alone []sample
	for _, s := range logins {
		if slices.ContainsFunc(requests, func(q sample) bool { return s.due.Before(q.end()) && q.due.Before(s.end()) }) {
			beside = append(beside, s)
		} else {
			alone = append(alone, s)
		}
	}
	took, with, without := sum(requests), sum(beside), sum(alone)
	t.Logf("scale, revoke all: %d users with %d sessions each · %d acknowledged, request %v median, %v worst"+
		" · Redis commands of one revocation at most %d, of the check of its token %d · accepted after it %d of %d"+
		" · logins of others, %d/s: %d beside a revocation p50 %v, p99 %v, %d without p50 %v, p99 %v, ratio %.2f (limit 2)"+
		" · logins that failed %d",
		users, each, took.answered, ms(took.p50), ms(took.worst), slices.Max(commands), checking, accepted, 20*users,
		perSecond, with.all, ms(with.p50), ms(with.p99), without.all, ms(without.p50), ms(without.p99),
		float64(with.p99)/float64(max(1, without.p99)), with.all+without.all-with.answered-without.answered)
	if accepted > 0 {
		t.Errorf("%d revoked sessions were accepted", accepted)
	}
	// On a busy machine Redis or Postgres time out. A revocation is then answered 503 and repeated.
	if slices.Min(commands) > 3 || isLong() && slices.Max(commands) > 3 {
		t.Errorf("the revocations took these numbers of Redis commands: %v", commands)
	}
	if isLong() && (took.answered < users || took.worst > time.Second || with.p99 > 2*without.p99) {
		t.Errorf("a revocation failed or took too long, or it delays the logins of others too much")
	}
	if t.Failed() {
		t.Log(r.complaints())
	}
}

// crowd is a set of sessions that SQL put into Postgres. The first ones are live, the others revoked.
type crowd struct {
	keys                 *tokens.KeySet
	issued               time.Time
	users, live, revoked int
}

// seed puts sessions into Postgres, spread evenly over users. Their tokens were issued 10 minutes ago.
func (r *rig) seed(t testing.TB, db *sql.DB, users, live, revoked int) *crowd {
	t.Helper()
	text, err := os.ReadFile(r.env["SIGNING_KEYS_FILE"])
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{issued: time.Now().Add(-10 * time.Minute).Truncate(time.Second), users: users, live: live, revoked: revoked}
	if c.keys, err = tokens.ParseKeySet(text); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO users (id, username, email, first_name, last_name, password_hash, password_version, status, created_at, updated_at)
			SELECT 'crowd-' || n, 'crowd-' || n, '', '', '', '', 1, 'active', $2, $2 FROM generate_series(0, $1 - 1) n`, []any{users, c.issued}},
		{`INSERT INTO sessions (id, user_id, token_id, ip, user_agent, device, amr, generation,
				created_at, last_seen_at, auth_time, access_expires_at, expires_at, max_expires_at,
				ended_at, end_reason, ended_by, refresh_family, refresh_current)
			SELECT 'seeded-' || n, 'crowd-' || n % $1::int, 'token-' || n, '127.0.0.1', 'Mozilla/5.0', 'Firefox on Linux', 'pwd', 1,
				$4::timestamptz, $4, $4, $4 + interval '1 hour', $4 + interval '30 days', $4 + interval '90 days',
				CASE WHEN n >= $2 THEN now() END, CASE WHEN n >= $2 THEN 'revoked' ELSE '' END, CASE WHEN n >= $2 THEN 'user' ELSE '' END,
				sha256(('family' || n)::bytea), sha256(('current' || n)::bytea)
			FROM generate_series(0, $2::int + $3::int - 1) n`, []any{users, live, revoked, c.issued}},
		{`ANALYZE`, nil},
	} {
		if _, err := db.Exec(statement.text, statement.args...); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *crowd) user(n int) string { return fmt.Sprint("crowd-", n%c.users) }

func (c *crowd) ref(n int) tokens.Ref {
	return tokens.Ref{Subject: c.user(n), SessionID: fmt.Sprint("seeded-", n), TokenID: fmt.Sprint("token-", n)}
}

// token returns the access token of a session.
func (c *crowd) token(n int) string {
	const name = "https://id.example"
	ref := c.ref(n)
	token, err := c.keys.Sign(&tokens.Claims{
		Issuer: name, Audience: []string{name}, Subject: ref.Subject, SessionID: ref.SessionID, TokenID: ref.TokenID,
		ClientID: "sessiond", AMR: []string{"pwd"}, IssuedAt: c.issued, ExpiresAt: c.issued.Add(time.Hour), AuthTime: c.issued,
	})
	if err != nil {
		panic(err)
	}
	return token
}

// check checks a session. It returns good for the right answer, unavailable for none, and odd for a
// wrong one.
func (c *crowd) check(b *browser, n int, at endpoint) answer {
	want := good
	if n >= c.live {
		want = refused
	}
	switch got := b.send("GET", at.base()+"/v1/verify", c.token(n), nil).answer(); got {
	case want:
		return good
	case unavailable:
		return unavailable
	default:
		return odd
	}
}

func (c *crowd) untilRight(t testing.TB, b *browser, n int, at endpoint) {
	t.Helper()
	await(t, "a check is answered", func() bool {
		got := c.check(b, n, at)
		if got == odd {
			t.Errorf("session %d: wrong answer", n)
		}
		return got != unavailable
	})
}

// fill puts all sessions into Redis as the service itself does after it read them from Postgres.
func (c *crowd) fill(t testing.TB, db *sql.DB, r *rig) {
	t.Helper()
	store, err := redisstore.Open("redis://"+local(r.master().port), redisstore.Options{LookTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var epoch tokens.Epoch
	if err := db.QueryRow("SELECT epoch, server FROM redis_epochs ORDER BY epoch DESC LIMIT 1").Scan(&epoch.Number, &epoch.Server); err != nil {
		t.Fatal(err)
	}
	store.Epochs().Learn([]tokens.Epoch{epoch}, time.Now().Add(time.Hour), 0) // trusted for an hour
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < c.live+c.revoked; n = int(next.Add(1)) - 1 {
				until := c.issued.Add(time.Hour)
				lease, leased, err := store.Lease(t.Context(), c.ref(n))
				done := false
				if leased && err == nil {
					done, err = store.Backfill(t.Context(), lease, c.ref(n), issuer.Snapshot{
						Entry: tokens.Entry{Ended: n >= c.live, Generation: 1, ExpiresAt: c.issued.AddDate(0, 0, 30)},
						Until: until, SubjectGeneration: 1, SubjectUntil: until,
					})
				}
				if !done || err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 {
		t.Fatalf("%d sessions could not be put into Redis", failed.Load())
	}
}

// queries of watcher
const (
	readsSoFar  = "SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = 'revoked_tokens'" // a read of a session looks there once
	latestEpoch = "SELECT max(epoch) FROM redis_epochs"
)

// watcher returns a connection to the database whose name tells it apart from those of the replicas.
func (r *rig) watcher(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", r.postgres.url(r.database, r.postgres.port)+"&application_name=watcher")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func query(t testing.TB, db *sql.DB, text string) (n int64) {
	t.Helper()
	if err := db.QueryRow(text).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// peak is the most that was seen in Postgres at once.
type peak struct{ reads, connections atomic.Int64 }

// watchPostgres looks every 10 ms until the end of the test.
func watchPostgres(t testing.TB, db *sql.DB) *peak {
	p := &peak{}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { stop(); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			var reads, connections int64
			if db.QueryRowContext(ctx, `
				SELECT count(*) FILTER (WHERE state = 'active' AND query LIKE '%subject_generation%'), count(*)
				FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'watcher'`).Scan(&reads, &connections) == nil {
				p.reads.Store(max(p.reads.Load(), reads))
				p.connections.Store(max(p.connections.Load(), connections))
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return p
}

// sample is one request.
type sample struct {
	due    time.Time
	took   time.Duration // from due on
	answer answer
}

func (s *sample) end() time.Time { return s.due.Add(s.took) }

// steadily sends requests at a rate until ctx ends. No request waits for the one before. If 100 are
// under way, the next one is not sent, and counts as one without an answer.
func steadily(ctx context.Context, perSecond int, send func(i int) answer) (samples []sample) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, 100)
	add := func(s sample) {
		mu.Lock()
		defer mu.Unlock()
		samples = append(samples, s)
	}
	began := time.Now()
	for i := 0; ; i++ {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		select {
		case <-ctx.Done():
			wg.Wait()
			return samples
		case <-time.After(time.Until(due)):
		}
		select {
		case room <- struct{}{}:
			wg.Go(func() {
				got := send(i)
				add(sample{due, time.Since(due), got})
				<-room
			})
		default:
			add(sample{due, time.Since(due), unavailable})
		}
	}
}

// within returns the samples that were due in a time.
func within(samples []sample, from, to time.Time) []sample {
	return slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return s.due.Before(from) || !s.due.Before(to) })
}

// least returns how many requests were answered at least in every second of a time.
func least(samples []sample, from, to time.Time) int {
	seconds := make([]int, to.Sub(from)/time.Second)
	for _, s := range samples {
		if at := s.end().Sub(from); s.answer == good && at >= 0 && int(at/time.Second) < len(seconds) {
			seconds[at/time.Second]++
		}
	}
	return slices.Min(seconds)
}

// figures are what samples come to.
type figures struct {
	all, answered, wrong int
	p50, p99, worst      time.Duration // of those that were answered
}

func sum(samples []sample) (f figures) {
	var took []time.Duration
	for _, s := range samples {
		switch f.all++; s.answer {
		case good:
			f.answered++
			took = append(took, s.took)
		case odd:
			f.wrong++
		}
	}
	slices.Sort(took)
	if n := len(took); n > 0 {
		f.p50, f.p99, f.worst = took[n/2], took[n*99/100], took[n-1]
	}
	return f
}

func ms(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// pause lets the load go on for a while.
func pause(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.FailNow()
	}
}

// monitor records the commands that a Redis server gets.
type monitor struct {
	t     testing.TB
	node  *node
	marks int
	mu    sync.Mutex
	lines []string
}

func startMonitor(t testing.TB, n *node) *monitor {
	t.Helper()
	conn, err := net.Dial("tcp", local(n.port))
	if err != nil {
		t.Fatal(err)
	}
	m := &monitor{t: t, node: n}
	done := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-done })
	go func() {
		defer close(done)
		for s := bufio.NewScanner(conn); s.Scan(); {
			m.mu.Lock()
			m.lines = append(m.lines, s.Text())
			m.mu.Unlock()
		}
	}()
	if _, err := fmt.Fprint(conn, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	await(t, "Redis reports its commands", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.lines) > 0 })
	return m
}

// mark returns how many commands there were until now.
func (m *monitor) mark() (at int) {
	m.t.Helper()
	m.marks++
	text := fmt.Sprint("mark-", m.marks)
	m.node.do("ECHO " + text)
	await(m.t, "the mark is reported", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		at = slices.IndexFunc(m.lines, func(line string) bool { return strings.HasSuffix(line, `"`+text+`"`) })
		return at >= 0
	})
	return at
}

func (m *monitor) between(from, to int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.lines[from:to])
}

// commandsOf returns the commands that clients sent for a user's revocation, and the number of those
// that checked the token. All keys of a user contain the user's id. A check sends GETEX, MGET and, on
// the same connection, INFO, which has no key. If Redis does not know the session, the check also
// takes the session's lease and uses it up. The INFO and PING of the background, and the commands for
// other users, are left out, and so are commands within a script.
func commandsOf(lines []string, user string) (revoking []string, checking int) {
	open := map[string]bool{} // connections whose check has not ended
	for _, line := range lines {
		origin, command, _ := strings.Cut(line, "] ")
		_, origin, _ = strings.Cut(origin, " [")
		name, _, _ := strings.Cut(strings.ToLower(command), " ")
		switch ours := strings.Contains(command, "{"+user+"}"); {
		case strings.HasSuffix(origin, " lua"):
		case ours && (name == `"getex"` || name == `"mget"` || strings.Contains(command, `"l:{`+user+`}:`)):
			checking++
			open[origin] = name == `"mget"`
		case ours:
			revoking = append(revoking, command)
		case open[origin] && name == `"info"`:
			checking++
			delete(open, origin)
		}
	}
	return revoking, checking
}
