package sqlstore_test

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

func measured(t *testing.T, db *sqlstore.DB) sqlstore.Measures {
	t.Helper()
	m, err := db.Measure(t.Context(), longAgo.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// change runs a statement on the tables.
func change(t *testing.T, db *sqlstore.DB, statement string) {
	t.Helper()
	if _, err := db.SQL().ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func TestMeasure_FindsWhatWaitsInTheOutbox(t *testing.T) {
	t.Parallel()
	db := sqlstoretest.NewPostgres(t)
	if m := measured(t, db); m.Revocations != (sqlstore.Waiting{}) || m.Mails != (sqlstore.Waiting{}) {
		t.Errorf("an empty outbox has %+v", m)
	}
	subject, list := startSessions(t, db, 3)
	for i, s := range list {
		end := issuer.Ending{At: longAgo.Add(time.Duration(i) * time.Second), Reason: issuer.ReasonLogout, By: issuer.ByUser}
		if _, _, err := db.Sessions().Revoke(t.Context(), subject, s.ID, end); err != nil {
			t.Fatal(err)
		}
	}
	change(t, db, `UPDATE outbox SET topic = 'revocation' WHERE id = (SELECT min(id) FROM outbox)`) // as an earlier release
	if m := measured(t, db); m.Revocations.Length != 3 || !m.Revocations.Oldest.Equal(longAgo) || m.Mails.Length != 0 {
		t.Errorf("three revocations wait, but the measures are %+v", m)
	}
	change(t, db, `INSERT INTO outbox (topic, user_id, payload, queued_at, due_at) SELECT 'mail', '', '{}', now(), now() FROM generate_series(1, 10001)`)
	if m := measured(t, db); m.Mails.Length != sqlstore.MaxWaiting || m.Mails.Oldest.IsZero() || m.Revocations.Length != 3 {
		t.Errorf("10,001 mails wait, but the measures are %+v", m)
	}
}

func TestMeasure_EstimatesSessionsAndUsers(t *testing.T) {
	t.Parallel()
	db := sqlstoretest.NewPostgres(t)
	_, list := startSessions(t, db, 1)
	multiply(t, db, list[0], 6000)
	change(t, db, `UPDATE sessions SET expires_at = now() + interval '1 day'`)
	change(t, db, `UPDATE sessions SET ended_at = now() WHERE id IN (SELECT id FROM sessions ORDER BY refresh_family LIMIT 2000)`)
	change(t, db, `UPDATE sessions SET expires_at = now() - interval '1 day' WHERE id IN (SELECT id FROM sessions WHERE ended_at IS NULL ORDER BY refresh_family LIMIT 1000)`)
	change(t, db, `ANALYZE`)
	if m := measured(t, db); m.Sessions < 2500 || m.Sessions > 3500 || m.Users < 1 || m.Users > 10 {
		t.Errorf("3001 sessions of one user are active, but the estimates are %v and %v", m.Sessions, m.Users)
	}
}

func TestMeasure_CountsSessionsAndUsersOnSQLite(t *testing.T) {
	t.Parallel()
	db := sqlstoretest.New(t)
	subject, list := startSessions(t, db, 3)
	end := issuer.Ending{At: longAgo, Reason: issuer.ReasonLogout, By: issuer.ByUser}
	if _, _, err := db.Sessions().Revoke(t.Context(), subject, list[0].ID, end); err != nil {
		t.Fatal(err)
	}
	if m := measured(t, db); m.Sessions != 2 || m.Users != 1 || m.Revocations.Length != 1 {
		t.Errorf("two sessions of one user are active, and one revocation waits, but the measures are %+v", m)
	}
}
