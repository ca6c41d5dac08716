package sqlstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// TestEpochs_AreNumberedOnceAndCountFromConfirmation checks the times that make a revocation wait.
// The test sets the clock back by making the rows older.
func TestEpochs_AreNumberedOnceAndCountFromConfirmation(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		s, ctx := db.Sessions(), t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		read := func() issuer.EpochTable {
			t.Helper()
			table, err := s.Epochs(ctx)
			must(err)
			return table
		}
		pass := func(ms int) {
			t.Helper()
			for _, column := range []string{"registered_at", "confirmed_at"} {
				_, err := db.SQL().ExecContext(ctx, db.SQL().Rebind("UPDATE redis_epochs SET "+column+" = "+column+" - ? WHERE "+column+" > 0"), ms)
				must(err)
			}
		}
		confirmedFor := func() int64 {
			t.Helper()
			must(s.ConfirmEpochs(ctx, 1))
			e := read().Epochs[0]
			return e.ConfirmedAt - e.RegisteredAt
		}
		if table := read(); len(table.Epochs) != 0 {
			t.Fatalf("a new database has %+v", table)
		}
		must(s.BeginEpoch(ctx, 1, issuer.Server{ID: "a", Supersedes: "z"}))
		must(s.BeginEpoch(ctx, 1, issuer.Server{ID: "b"})) // another replica was first
		table := read()
		if len(table.Epochs) != 1 || table.Epochs[0].Number != 1 || table.Epochs[0].Server != "a" || table.Epochs[0].Supersedes != "z" {
			t.Fatalf("%+v, want one epoch, of the server a", table)
		}
		if age := time.Since(time.UnixMilli(table.Now)).Abs(); age > time.Minute {
			t.Errorf("the ledger's clock differs by %v", age)
		}
		if table.Epochs[0].RegisteredAt != 0 {
			t.Error("the time counts from the insertion")
		}
		pass(5000) // a commit that hangs
		if got := confirmedFor(); got != 0 {
			t.Errorf("at the first confirmation, confirmed for %d ms, want 0", got)
		}
		pass(1000) // the time that this machine takes counts, too
		if got := confirmedFor(); got < 1000 {
			t.Errorf("1 s later, confirmed for %d ms", got)
		}
		pass(1501)
		if got := confirmedFor(); got != 0 {
			t.Errorf("after a gap, confirmed for %d ms, want 0", got)
		}
		for range 4 {
			pass(1000)
			confirmedFor()
		}
		pass(60_000)
		if got := confirmedFor(); got < 60_000 {
			t.Errorf("a gap after 4 s made the epoch begin again: confirmed for %d ms", got)
		}
		pass(-60_000)
		if got := confirmedFor(); got != 0 {
			t.Errorf("after the clock stepped back, confirmed for %d ms, want 0", got)
		}
		if table := read(); table.Epochs[0].ConfirmedAt > table.Now {
			t.Errorf("%+v is confirmed in the future", table)
		}

		user := newUser("ada")
		must(db.Users().Create(ctx, user, time.Time{}, nil))
		now := time.Now().UTC().Truncate(time.Microsecond)
		start := newStart(user.ID, 1, now)
		_, _, err := s.Start(ctx, start)
		must(err)
		if !read().Pending.IsZero() {
			t.Error("a revocation waits in a new database")
		}
		_, revocation, err := s.Revoke(ctx, user.ID, start.ID, issuer.Ending{At: now, Reason: issuer.ReasonLogout, By: issuer.ByUser})
		must(err)
		if got := read().Pending; !got.Equal(now) {
			t.Errorf("the oldest revocation waits since %v, want %v", got, now)
		}
		must(s.RevocationDone(ctx, revocation.ID))
		if !read().Pending.IsZero() {
			t.Error("an enforced revocation waits")
		}

		// What nobody has confirmed for a day goes, except the latest, whose number must not return.
		must(s.BeginEpoch(ctx, 2, issuer.Server{ID: "b"}))
		pass(1000)
		before := read().Epochs
		must(s.ConfirmEpochs(ctx, 1, 2))
		must(s.ConfirmEpochs(ctx))
		for i, e := range read().Epochs {
			if e.RegisteredAt == 0 || e.ConfirmedAt == before[i].ConfirmedAt {
				t.Errorf("%+v was not confirmed", e)
			}
		}
		pass(25 * 3600 * 1000)
		must(s.BeginEpoch(ctx, 3, issuer.Server{ID: "c"}))
		if table := read(); len(table.Epochs) != 1 || table.Epochs[0].Number != 3 {
			t.Errorf("%+v, want epoch 3 only", table)
		}
		pass(25 * 3600 * 1000)
		must(s.BeginEpoch(ctx, 3, issuer.Server{ID: "c"}))
		if table := read(); len(table.Epochs) != 1 {
			t.Errorf("%+v, want the latest epoch", table)
		}
		must(s.ClearEpochs(ctx))
		if table := read(); len(table.Epochs) != 0 {
			t.Errorf("%+v after ClearEpochs", table)
		}
	})
}

// TestEpochs_AreReadWhileRequestsHoldAllConnections: a poll that fails makes a replica trust its
// Redis for longer, although other replicas can begin an epoch.
func TestEpochs_AreReadWhileRequestsHoldAllConnections(t *testing.T) {
	t.Parallel()
	db := open(t, sqlstoretest.PostgresURL(t), sqlstore.Options{MaxConns: 1, QueryTimeout: 5 * time.Second})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	held, err := db.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	s := db.Sessions()
	if err := s.BeginEpoch(t.Context(), 1, issuer.Server{ID: "a"}); err != nil {
		t.Error(err)
	}
	if err := s.ConfirmEpochs(t.Context(), 1); err != nil {
		t.Error(err)
	}
	if table, err := s.Epochs(t.Context()); err != nil || len(table.Epochs) != 1 {
		t.Errorf("%+v, %v", table, err)
	}
}

// TestDueRevocations_AreHiddenFromReleaseBefore checks both directions of a rolling upgrade: the
// release before posts and claims revocations of the topic "revocation".
func TestDueRevocations_AreHiddenFromReleaseBefore(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		s, ctx := db.Sessions(), t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		user := newUser("ada")
		must(db.Users().Create(ctx, user, time.Time{}, nil))
		now := time.Now().UTC().Truncate(time.Microsecond)
		revoke := func() issuer.Revocation {
			t.Helper()
			start := newStart(user.ID, 1, now)
			_, _, err := s.Start(ctx, start)
			must(err)
			_, r, err := s.Revoke(ctx, user.ID, start.ID, issuer.Ending{At: now, Reason: issuer.ReasonLogout, By: issuer.ByUser})
			must(err)
			return r
		}
		earlier, later := revoke(), revoke()
		var visible int
		must(db.SQL().GetContext(ctx, &visible, `SELECT count(*) FROM outbox WHERE topic = 'revocation'`))
		if visible != 0 {
			t.Errorf("the release before sees %d revocations", visible)
		}
		_, err := db.SQL().ExecContext(ctx, db.SQL().Rebind(`UPDATE outbox SET topic = 'revocation' WHERE id = ?`), earlier.ID)
		must(err)
		must(s.BeginEpoch(ctx, 1, issuer.Server{ID: "a"}))
		for _, want := range []issuer.Revocation{earlier, later} {
			if table, err := s.Epochs(ctx); err != nil || table.Pending.IsZero() {
				t.Errorf("no revocation waits: %+v, %v", table, err)
			}
			if got, err := s.Revocation(ctx, want.ID); err != nil || got != want {
				t.Errorf("Revocation = %+v, %v, want %+v", got, err, want)
			}
			if due, err := s.DueRevocations(ctx, now, time.Minute, 1); err != nil || len(due) != 1 || due[0] != want {
				t.Errorf("DueRevocations = %+v, %v, want %+v", due, err, want)
			}
		}
		must(s.RevocationDone(ctx, later.ID))
		if table, err := s.Epochs(ctx); err != nil || table.Pending.IsZero() {
			t.Errorf("a revocation of the release before does not count as waiting: %+v, %v", table, err)
		}
		must(s.RevocationDone(ctx, earlier.ID))
		if table, err := s.Epochs(ctx); err != nil || !table.Pending.IsZero() {
			t.Errorf("an enforced revocation waits: %+v, %v", table, err)
		}
	})
}

// TestEpochs_FindOldestRevocationInIndex: each replica reads the epochs every second, also while very
// many revocations wait.
func TestEpochs_FindOldestRevocationInIndex(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			db, explain := d.open(t), "EXPLAIN QUERY PLAN "
			if d.name == "Postgres" {
				explain = "SET LOCAL enable_seqscan = off; EXPLAIN " // otherwise it reads an empty table without an index
			}
			rows, err := db.SQL().QueryxContext(t.Context(), explain+db.ReadEpochs())
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			plan := ""
			for rows.Next() {
				step, err := rows.SliceScan()
				if err != nil {
					t.Fatal(err)
				}
				plan += fmt.Sprintln(step...)
			}
			if err := rows.Err(); err != nil || strings.Count(plan, "outbox_queued") != 2 {
				t.Errorf("the plan does not use the index for both topics: %v\n%s", err, plan)
			}
		})
	}
}
