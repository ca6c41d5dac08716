package issuer_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// changes collects the changes of state that a replica logs and counts.
type changes struct {
	slog.Handler
	logged, counted []string
}

func (c *changes) Enabled(context.Context, slog.Level) bool { return true }

func (c *changes) Handle(_ context.Context, r slog.Record) error {
	change := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "change" {
			change = a.Value.String()
		}
		return true
	})
	c.logged = append(c.logged, change)
	return nil
}

func watchChanges(m *issuer.Manager) *changes {
	c := &changes{}
	m.Log, m.Changed, m.Counts = slog.New(c), func(change string) { c.counted = append(c.counted, change) }, new(session.Counts)
	return c
}

// wantChanges polls three times, and wants each of these changes once.
func wantChanges(t *testing.T, m *issuer.Manager, c *changes, want ...string) {
	t.Helper()
	for range 3 {
		m.PollEpochs(t.Context())
	}
	if !slices.Equal(c.logged, want) || !slices.Equal(c.counted, want) {
		t.Errorf("logged %q and counted %q, want %q", c.logged, c.counted, want)
	}
	for _, change := range c.counted {
		if !slices.Contains(issuer.Changes, change) {
			t.Errorf("%q is not in Changes", change)
		}
	}
	c.logged, c.counted = nil, nil
}

// wantIn checks which states a replica is in.
func wantIn(t *testing.T, m *issuer.Manager, want ...string) {
	t.Helper()
	var got []string
	for _, name := range issuer.States {
		if m.In(name) {
			got = append(got, name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the replica is in the states %q, want %q", got, want)
	}
}

// readOnly is a ledger that answers questions and refuses to record that a server is in use.
type readOnly struct{ issuer.Ledger }

func (readOnly) ConfirmEpochs(context.Context, ...int64) error { return session.ErrUnavailable }

func TestPollEpochs_LogsAndCountsEachChangeOnce(t *testing.T) {
	w := newTwoServers(t)
	a, b := watchChanges(w.a), watchChanges(w.b)
	wantChanges(t, w.a, a, "epoch_begun", "trusted")
	wantIn(t, w.a, "trusted")

	wantChanges(t, w.b, b, "epoch_begun", "trusted")
	wantChanges(t, w.a, a, "epoch_seen", "superseded")
	wantIn(t, w.a, "superseded")

	w.ledger.away.Store(true)
	wantChanges(t, w.a, a, "ledger_away")
	wantIn(t, w.a, "superseded", "ledger_away")
	wantChanges(t, w.b, b, "ledger_away")
	wantIn(t, w.b, "trusted", "ledger_away")
	w.ledger.away.Store(false)
	wantChanges(t, w.a, a, "ledger_back")
	wantChanges(t, w.b, b, "ledger_back")

	w.b.Ledger = readOnly{w.ledger}
	wantChanges(t, w.b, b, "ledger_away")
	w.b.Ledger = w.ledger
	wantChanges(t, w.b, b, "ledger_back")

	refuseWrites(t, w.clients[1], "1")
	w.b.PollEpochs(t.Context())
	refuseWrites(t, w.clients[1], "0")
	wantChanges(t, w.b, b) // a single failure

	refuseWrites(t, w.clients[1], "1")
	wantChanges(t, w.b, b, "redis_away")
	wantIn(t, w.b, "redis_away")
	refuseWrites(t, w.clients[1], "0")
	wantChanges(t, w.b, b, "trusted")

	w.ledger.passed.Store(10_000) // without a confirmation of the second server
	wantChanges(t, w.a, a, "epoch_begun", "trusted")
}

func refuseWrites(t *testing.T, client *redis.Client, replicas string) {
	t.Helper()
	if err := client.ConfigSet(t.Context(), "min-replicas-to-write", replicas).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestPollEpochs_LogsNewServer(t *testing.T) {
	w := newTwoServers(t)
	redisURL := redisstoretest.StartServer(t, "--enable-debug-command", "yes")
	client := redisstoretest.Client(t, redisURL)
	m := w.replicaOn(t, redisURL)
	c := watchChanges(m)
	failover := func() {
		t.Helper()
		if err := client.Do(t.Context(), "DEBUG", "CHANGE-REPL-ID").Err(); err != nil {
			t.Fatal(err)
		}
	}
	wantChanges(t, m, c, "epoch_begun", "trusted")
	failover()
	wantChanges(t, m, c, "server_changed", "epoch_begun")

	w.ledger.away.Store(true)
	failover()
	wantChanges(t, m, c, "ledger_away", "server_changed", "unconfirmed")
	wantIn(t, m, "unconfirmed", "ledger_away")
	w.ledger.away.Store(false)
	wantChanges(t, m, c, "ledger_back", "epoch_begun", "trusted")
}

func TestPollEpochs_LogsThatChecksReadSessionsBack(t *testing.T) {
	w := newTwoServers(t)
	c := watchChanges(w.a)
	wantChanges(t, w.a, c, "epoch_begun", "trusted")
	var tokens []string
	for range 12 {
		set, _ := w.Start(t)
		tokens = append(tokens, set.AccessToken)
	}
	verify := func(tokens []string) {
		t.Helper()
		for _, token := range tokens {
			if _, err := w.a.Verify(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}
		w.a.PollEpochs(t.Context())
	}
	verify(tokens[:2]) // a few new sessions
	if len(c.logged) > 0 {
		t.Errorf("after two checks: logged %q", c.logged)
	}
	if err := w.clients[0].FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	verify(tokens)
	wantIn(t, w.a, "trusted", "reading_back")
	verify(tokens)
	wantIn(t, w.a, "trusted")
	wantChanges(t, w.a, c, "reading_back", "reading_done")
	if checks, fallbacks := w.a.Counts.Checks.Load(), w.a.Counts.Fallbacks.Load(); checks != 26 || fallbacks != 14 {
		t.Errorf("counted %d checks and %d of them by the ledger, want 26 and 14", checks, fallbacks)
	}
}
