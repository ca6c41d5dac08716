package stage

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lib/pq"

	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/session"
)

// Ledger writes to the Postgres database of a build directly.
type Ledger struct{ db *sql.DB }

// Ledger opens the database of the build until the current Scope ends.
func (s *Stage) Ledger(b Build) Ledger {
	db := must.Get(sql.Open("postgres", b.databaseURL))
	s.Later(db.Close)
	return Ledger{db}
}

const columns = `id, user_id, token_id, ip, user_agent, device, amr, generation, created_at, last_seen_at, auth_time,
	access_expires_at, expires_at, max_expires_at, refresh_family, refresh_current`

// values are those of a session that began at the time at.
const values = `'203.0.113.77',
	'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
	'Chrome on macOS', 'pwd', 1, at, at, at, at + interval '1 day', at + interval '30 days', at + interval '90 days'`

// Record adds sessions and their users, as logins do. Without them, a check that Redis does not answer in time would
// get a wrong answer.
func (l Ledger) Record(ctx context.Context, refs []session.Ref) {
	var users, ids []string
	for _, ref := range refs {
		users, ids = append(users, ref.Subject), append(ids, ref.SessionID)
	}
	l.exec(ctx, `INSERT INTO users (id, username, email, first_name, last_name, password_hash, password_version, status, created_at, updated_at)
		SELECT id, id, id, '', '', '', 1, 'active', now(), now() FROM unnest($1::text[]) AS id`, pq.Array(users))
	l.exec(ctx, `INSERT INTO sessions (`+columns+`) SELECT id, user_id, id, `+values+`, sha256(id::bytea), sha256(user_id::bytea)
		FROM (SELECT *, now() AS at FROM unnest($1::text[], $2::text[]) AS of (id, user_id)) AS logins`, pq.Array(ids), pq.Array(users))
}

// Grow adds users with this password hash, each with three sessions of the past 29 days and an event for each. After
// that, two changes rarely meet in one page of the database. The users are named user1, user2 and so on.
func (l Ledger) Grow(ctx context.Context, users int, hash string) {
	const perUser = 3
	l.exec(ctx, fmt.Sprintf(`CREATE EXTENSION pg_buffercache; -- for DirtyPages
		-- Vacuum would take CPU time and change pages in the middle of a measurement.
		ALTER TABLE users SET (autovacuum_enabled = false);
		ALTER TABLE sessions SET (autovacuum_enabled = false);
		ALTER TABLE events SET (autovacuum_enabled = false);
		SET session_replication_role = replica; -- do not check the user of each row
		INSERT INTO users (id, username, username_key, email, email_key, first_name, last_name, password_hash, password_version, status,
			created_at, updated_at, email_verified_at)
		SELECT left(md5('u' || n), 30), 'user' || n, 'user' || n, 'user' || n || '@example.com', 'user' || n || '@example.com', 'Ada', 'Lovelace',
			%[3]s, 1, 'active', now(), now(), now() FROM generate_series(1, %[1]d) AS n;
		INSERT INTO sessions (`+columns+`)
		SELECT 'z' || lpad(n::text, 8, '0') || left(md5(n::text), 21), left(md5('u' || 1 + n * 7919::bigint %% %[1]d), 30), left(md5('t' || n), 22), `+values+`,
			sha256(n::text::bytea), sha256(('x' || n)::bytea)
		FROM (SELECT n, now() - (%[2]d - n)::float8 / %[2]d * interval '29 days' AS at FROM generate_series(1, %[2]d) AS n) AS logins;
		INSERT INTO events (at, type, user_id, session_id, address, number, previous)
		SELECT created_at, 'session.started', user_id, id, ip, row_number() OVER (ORDER BY id) + 1000000, sha256(id::bytea) FROM sessions WHERE id LIKE 'z%%';
		SET session_replication_role = DEFAULT`, users, perUser*users, pq.QuoteLiteral(hash)))
}

// Scatter puts the rows of sessions in a random order on the disk. Those that a login has just written then lie apart, as
// those of a busy hour do. fillfactor is how full the pages are then, in percent.
func (l Ledger) Scatter(ctx context.Context, fillfactor int) {
	l.exec(ctx, fmt.Sprintf(`ALTER TABLE sessions SET (fillfactor = %d)`, fillfactor))
	l.exec(ctx, `CLUSTER sessions USING sessions_refresh_family_unique`)
	l.exec(ctx, `VACUUM ANALYZE`) // otherwise the first reader of each page would mark its rows
}

// PerRow returns how many bytes a row of a table takes on the disk, with its indexes.
func (l Ledger) PerRow(ctx context.Context, table string) (bytes float64) {
	must.Do(l.db.QueryRowContext(ctx, fmt.Sprintf(`SELECT pg_total_relation_size('%[1]s')::float8 / count(*) FROM %[1]s`, table)).Scan(&bytes))
	return bytes
}

// Sample returns the ids of n sessions that Grow added, spread over all of them.
func (l Ledger) Sample(ctx context.Context, n int) (ids []string) {
	must.Do(l.db.QueryRowContext(ctx, `SELECT array_agg(id) FROM (SELECT id FROM sessions WHERE id LIKE 'z%' ORDER BY md5(id) LIMIT $1) AS few`, n).Scan(pq.Array(&ids)))
	return ids
}

// Checkpoint writes all dirty pages to the disk.
func (l Ledger) Checkpoint(ctx context.Context) { l.exec(ctx, `CHECKPOINT`) }

// DirtyPages returns how many pages of the database have changed since the checkpoint.
func (l Ledger) DirtyPages(ctx context.Context) (pages float64) {
	must.Do(l.db.QueryRowContext(ctx, `SELECT count(*)::float8 FROM pg_buffercache
		WHERE isdirty AND reldatabase = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&pages))
	return pages
}

// Position returns the present length of the WAL, in bytes.
func (l Ledger) Position(ctx context.Context) (bytes float64) {
	must.Do(l.db.QueryRowContext(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0')::float8`).Scan(&bytes))
	return bytes
}

// Backend returns the process id of the server process of one connection.
func (l Ledger) Backend(ctx context.Context) (pid int) {
	must.Do(l.db.QueryRowContext(ctx, `SELECT pg_backend_pid()`).Scan(&pid))
	return pid
}

func (l Ledger) exec(ctx context.Context, query string, args ...any) {
	must.Get(l.db.ExecContext(ctx, query, args...))
}
