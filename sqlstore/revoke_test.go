package sqlstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// multiply adds n copies of a session to the table, with other ids and refresh families.
func multiply(t *testing.T, db *sqlstore.DB, s issuer.Session, n int) {
	t.Helper()
	if _, err := db.SQL().ExecContext(t.Context(), `
		INSERT INTO sessions (id, user_id, token_id, ip, user_agent, device, amr, generation, created_at, last_seen_at,
			auth_time, access_expires_at, expires_at, max_expires_at, refresh_family, refresh_current)
		SELECT id || '-' || i, user_id, token_id, ip, user_agent, device, amr, generation, created_at, last_seen_at,
			auth_time, access_expires_at, expires_at, max_expires_at, sha256((id || i)::bytea), refresh_current
		FROM sessions, generate_series(1, $2) AS i WHERE id = $1`, s.ID, n); err != nil {
		t.Fatal(err)
	}
}

// TestRevokeAll_EndsTwelveThousandSessions: as many rows are written as for a user with one session.
func TestRevokeAll_EndsTwelveThousandSessions(t *testing.T) {
	t.Parallel()
	const many = 12_000
	db := sqlstoretest.NewPostgres(t)
	count := func(query string, args ...any) (n int) {
		t.Helper()
		if err := db.SQL().GetContext(t.Context(), &n, query, args...); err != nil {
			t.Fatal(err)
		}
		return n
	}
	open := func(subject string) int {
		t.Helper()
		list, err := db.Sessions().Active(t.Context(), subject, longAgo, issuer.Page{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	subject, list := startSessions(t, db, 1)
	multiply(t, db, list[0], many)
	at := longAgo.Add(time.Minute)

	start := newStart(subject, 1, at)
	start.MaxSessions, start.EndOldest = 10, true
	last, displaced, err := db.Sessions().Start(t.Context(), start)
	if err != nil {
		t.Fatalf("Start after the limit was lowered: %v", err)
	}
	left := many + 2 - len(displaced)
	if n := open(subject); len(displaced) == 0 || len(displaced) > 1000 || n != left {
		t.Errorf("one login displaced %d sessions and left %d", len(displaced), n)
	}

	ended, _, err := db.Sessions().RevokeAll(t.Context(), subject, last.ID, issuer.Ending{At: at, Reason: issuer.ReasonRevokedOthers, By: issuer.ByUser})
	if err != nil || ended.Count != left-1 || len(ended.Newest) != issuer.MaxEndedNewest {
		t.Errorf("RevokeAll ended %d sessions, want %d, and returned %d (%v)", ended.Count, left-1, len(ended.Newest), err)
	}
	if n := open(subject); n != 1 {
		t.Errorf("%d sessions are open, want 1", n)
	}
	if n := count(`SELECT count(*) FROM events WHERE user_id = $1 AND type = 'sessions.ended' AND session_id = $2`, subject, last.ID); n != 1 {
		t.Errorf("%d endings of all sessions are in the audit trail, want 1", n)
	}
	if n := count(`SELECT count(*) FROM sessions WHERE user_id = $1 AND ended_at IS NOT NULL`, subject); n != len(displaced) {
		t.Errorf("%d rows of sessions were written, want only the %d of the sessions that the login displaced", n, len(displaced))
	}
}

// TestRevokeAll_DoesNotReadAllUsersSessions: otherwise the time of one user's request would grow with
// the sessions of all users.
func TestRevokeAll_DoesNotReadAllUsersSessions(t *testing.T) {
	t.Parallel()
	db := sqlstoretest.NewPostgres(t)
	subject, list := startSessions(t, db, 1)
	multiply(t, db, list[0], 500)
	_, list = startSessions(t, db, 1)
	multiply(t, db, list[0], 20_000)
	if _, err := db.SQL().ExecContext(t.Context(), "ANALYZE sessions"); err != nil {
		t.Fatal(err)
	}
	plan, err := db.ExplainRevokeAll(t.Context(), subject, longAgo.Add(time.Minute))
	if err != nil || !strings.Contains(plan, "Insert on session_endings") || strings.Contains(plan, "Seq Scan on sessions") {
		t.Errorf("want no scan of the whole table (%v):\n%s", err, plan)
	}
}
