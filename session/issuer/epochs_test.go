package issuer_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/issuertest"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// timedLedger is a ledger whose time goes on when the test says so. It counts reads of sessions,
// and it can be away.
type timedLedger struct {
	issuer.Ledger
	passed    *atomic.Int64 // milliseconds
	confirmed *atomic.Int64 // milliseconds for which the latest epoch has been confirmed
	away      *atomic.Bool
	finds     *atomic.Int64
	claims    *atomic.Int64
}

func (l timedLedger) DueRevocations(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]issuer.Revocation, error) {
	l.claims.Add(1)
	return l.Ledger.DueRevocations(ctx, now, lease, limit)
}

func (l timedLedger) Epochs(ctx context.Context) (issuer.EpochTable, error) {
	if l.away.Load() {
		return issuer.EpochTable{}, session.ErrUnavailable
	}
	table, err := l.Ledger.Epochs(ctx)
	table.Now += l.passed.Load()
	if n := len(table.Epochs); n > 0 {
		table.Epochs[n-1].ConfirmedAt += l.confirmed.Load()
	}
	return table, err
}

func (l timedLedger) Find(ctx context.Context, subject, id string, now time.Time) (issuer.Record, error) {
	if l.away.Load() {
		return issuer.Record{}, session.ErrUnavailable
	}
	l.finds.Add(1)
	return l.Ledger.Find(ctx, subject, id, now)
}

// twoServers is one replica on each of two Redis servers, with one ledger.
type twoServers struct {
	*issuertest.World
	ledger  timedLedger
	a, b    *issuer.Manager
	clients [2]*redis.Client
}

func newTwoServers(t *testing.T) *twoServers {
	t.Helper()
	db := sqlstoretest.NewPostgres(t)
	w := &twoServers{World: issuertest.New(t, db, redisstoretest.New(t))}
	if err := db.Sessions().ClearEpochs(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.ledger = timedLedger{db.Sessions(), new(atomic.Int64), new(atomic.Int64), new(atomic.Bool), new(atomic.Int64), new(atomic.Int64)}
	for i := range w.clients {
		redisURL := redisstoretest.StartServer(t, "--repl-diskless-sync-delay", "0")
		w.clients[i] = redisstoretest.Client(t, redisURL).(*redis.Client)
		m := w.replicaOn(t, redisURL)
		if w.a == nil {
			w.a = m
		} else {
			w.b = m
		}
	}
	return w
}

// replicaOn returns a replica that trusts a server only as the ledger says.
func (w *twoServers) replicaOn(t *testing.T, redisURL string) *issuer.Manager {
	t.Helper()
	store := redisstoretest.Open(t, redisURL, redisstore.Options{Epochs: &session.Epochs{}})
	m := &issuer.Manager{
		Verifier: w.Replicas[0].Verifier, Store: store, Ledger: w.ledger, Log: slog.New(slog.DiscardHandler),
		AccessTTL: time.Hour, IdleTTL: 24 * time.Hour, MaxTTL: 48 * time.Hour, RefreshGrace: issuer.NoRefreshLimit,
	}
	m.Verifier.Store = store
	m.Fallback = &issuer.LedgerFallback{Store: store, Finder: w.ledger, Timeout: 10 * time.Second}
	return m
}

// check polls the epochs first, as a replica does every second, and wants this verdict.
func check(t *testing.T, m *issuer.Manager, token string, want error) {
	t.Helper()
	m.PollEpochs(t.Context())
	if _, err := m.Verify(t.Context(), token); !errors.Is(err, want) {
		t.Errorf("Verify = %v, want %v", err, want)
	}
}

// wantHit checks that a session is accepted without a read of the ledger.
func (w *twoServers) wantHit(t *testing.T, m *issuer.Manager, token string, hit bool) {
	t.Helper()
	before := w.ledger.finds.Load()
	check(t, m, token, nil)
	if got := w.ledger.finds.Load() == before; got != hit {
		t.Errorf("accepted by the store alone: %t, want %t", got, hit)
	}
}

// TestEpochs_ServerThatReplicasReturnToBelievesNoOldEntry moves all replicas from one server to
// another and back. What was revoked in between is not in the first server.
func TestEpochs_ServerThatReplicasReturnToBelievesNoOldEntry(t *testing.T) {
	w := newTwoServers(t)
	revoked, ended := w.Start(t)
	other, _ := w.Start(t)
	for range 2 {
		check(t, w.a, revoked.AccessToken, nil)
	}
	w.wantHit(t, w.a, other.AccessToken, false)
	w.wantHit(t, w.a, other.AccessToken, true)

	check(t, w.b, other.AccessToken, nil)
	w.wantHit(t, w.b, other.AccessToken, true)
	w.ledger.confirmed.Store(4000)
	if _, err := w.b.Revoke(t.Context(), w.User.ID, ended.ID, issuer.ReasonRevoked); err != nil {
		t.Fatal(err)
	}
	w.ledger.confirmed.Store(0)

	check(t, w.a, revoked.AccessToken, session.ErrRevoked)
	if w.a.Trusted() == nil {
		t.Error("a server that was superseded a moment ago is trusted")
	}
	w.wantHit(t, w.a, other.AccessToken, false)
	w.wantHit(t, w.a, other.AccessToken, false) // and nothing was backfilled

	w.ledger.passed.Store(10_000) // without a confirmation of the second server
	w.wantHit(t, w.a, other.AccessToken, false)
	w.wantHit(t, w.a, other.AccessToken, true)
	if err := w.a.Trusted(); err != nil {
		t.Error(err)
	}
	check(t, w.a, revoked.AccessToken, session.ErrRevoked)
}

// TestEpochs_TwoMastersAcknowledgeOnOneSideOnly promotes a replica while its old master goes on.
func TestEpochs_TwoMastersAcknowledgeOnOneSideOnly(t *testing.T) {
	w := newTwoServers(t)
	one, first := w.Start(t)
	two, second := w.Start(t)
	host, port, _ := strings.Cut(w.clients[0].Options().Addr, ":")
	if err := w.clients[1].ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second server follows the first", func() bool {
		return strings.Contains(w.clients[1].Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	for _, token := range []string{one.AccessToken, two.AccessToken} {
		check(t, w.a, token, nil)
		w.wantHit(t, w.a, token, true)
	}
	if err := w.clients[1].ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	w.b.PollEpochs(t.Context())
	if _, err := w.a.Revoke(t.Context(), w.User.ID, first.ID, issuer.ReasonRevoked); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a revocation on the superseded side: %v, want ErrUnavailable", err)
	}
	if _, err := w.b.Revoke(t.Context(), w.User.ID, second.ID, issuer.ReasonRevoked); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a revocation in an epoch that just began: %v, want ErrUnavailable", err)
	}
	// By the time that the epoch has been confirmed for 4 s, the first side does not trust its own.
	eventually(t, "trust lapses without a poll", func() bool { return len(w.a.Store.Epochs().Current(time.Now(), time.Time{})) == 0 })
	w.ledger.confirmed.Store(4000)
	w.b.PollEpochs(t.Context())
	if err := w.b.EnforceDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	due, err := w.ledger.DueRevocations(t.Context(), time.Now().Add(time.Hour), time.Second, 10)
	if err != nil || len(due) != 0 {
		t.Errorf("the new side left revocations: %+v, %v", due, err)
	}
	for _, m := range []*issuer.Manager{w.a, w.b} {
		for _, token := range []string{one.AccessToken, two.AccessToken} {
			if _, err := m.Verify(t.Context(), token); !errors.Is(err, session.ErrRevoked) {
				t.Errorf("before a poll: %v, want ErrRevoked", err)
			}
			check(t, m, token, session.ErrRevoked)
		}
	}
}

// TestVerify_AsksLedgerAfterFailureUntilOutboxIsEmpty: while Redis refuses, a revocation is recorded
// and not enforced. A replica that has refused the session does not accept it when Redis is back.
func TestVerify_AsksLedgerAfterFailureUntilOutboxIsEmpty(t *testing.T) {
	w := newTwoServers(t)
	set, s := w.Start(t)
	other, _ := w.Start(t)
	for _, token := range []string{set.AccessToken, other.AccessToken} {
		check(t, w.a, token, nil)
		w.wantHit(t, w.a, token, true)
	}
	refuse := func(n string) {
		if err := w.clients[0].ConfigSet(t.Context(), "min-replicas-to-write", n).Err(); err != nil {
			t.Fatal(err)
		}
	}
	refuse("1")
	if _, err := w.a.Revoke(t.Context(), w.User.ID, s.ID, issuer.ReasonRevoked); !errors.Is(err, session.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := w.a.Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrRevoked) {
		t.Errorf("while Redis refuses: %v, want ErrRevoked", err)
	}
	refuse("0")
	for range 2 {
		before := w.ledger.finds.Load()
		if _, err := w.a.Verify(t.Context(), other.AccessToken); err != nil || w.ledger.finds.Load() == before {
			t.Errorf("after Redis is back: %v, by the store alone: %t", err, w.ledger.finds.Load() == before)
		}
		w.a.PollEpochs(t.Context()) // finds that the revocation waits
	}
	// Without the ledger, nothing can be acknowledged, and Redis decides.
	w.ledger.away.Store(true)
	check(t, w.a, other.AccessToken, nil)
	w.ledger.away.Store(false)

	w.a.PollEpochs(t.Context())
	if err := w.a.EnforceDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantHit(t, w.a, other.AccessToken, true)
	check(t, w.a, set.AccessToken, session.ErrRevoked)
}

// TestEnforceDue_ClaimsNothingAfterPollThatFailed: what a replica claims and cannot enforce waits
// until the lease ends.
func TestEnforceDue_ClaimsNothingAfterPollThatFailed(t *testing.T) {
	w := newTwoServers(t)
	claims := func() int64 {
		t.Helper()
		w.a.PollEpochs(t.Context())
		w.ledger.away.Store(false)
		before := w.ledger.claims.Load()
		if err := w.a.EnforceDue(t.Context()); err != nil {
			t.Error(err)
		}
		return w.ledger.claims.Load() - before
	}
	if claims() != 1 {
		t.Error("a replica whose server counts claims nothing")
	}
	w.ledger.away.Store(true)
	if claims() != 0 {
		t.Error("a replica claims revocations although the ledger was away")
	}
	if err := w.clients[0].ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if claims() != 0 {
		t.Error("a replica claims revocations although its server takes no writes")
	}
}

// TestVerify_IgnoresLookupsThatTheClientGaveUp: a client that leaves is no failure of Redis.
func TestVerify_IgnoresLookupsThatTheClientGaveUp(t *testing.T) {
	w := newTwoServers(t)
	set, _ := w.Start(t)
	check(t, w.a, set.AccessToken, nil)
	w.wantHit(t, w.a, set.AccessToken, true)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.a.Verify(gone, set.AccessToken); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	before := w.ledger.finds.Load()
	if _, err := w.a.Verify(t.Context(), set.AccessToken); err != nil || w.ledger.finds.Load() != before {
		t.Errorf("after a client left: %v, reads of the ledger: %d", err, w.ledger.finds.Load()-before)
	}
}

// TestVerify_ReadsEachSessionOfAUserOnce checks many sessions of one user at the same time.
func TestVerify_ReadsEachSessionOfAUserOnce(t *testing.T) {
	w := newTwoServers(t)
	w.a.PollEpochs(t.Context())
	var tokens []string
	for range 20 {
		set, _ := w.Start(t)
		tokens = append(tokens, set.AccessToken)
	}
	for range 2 {
		var wg sync.WaitGroup
		for _, token := range tokens {
			wg.Go(func() {
				if _, err := w.a.Verify(t.Context(), token); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.a.PollEpochs(t.Context())
	}
	if got := w.ledger.finds.Load(); got != 20 {
		t.Errorf("20 sessions were read %d times, want once each", got)
	}
}

// slowFinder answers when the test says so.
type slowFinder struct {
	issuer.Finder
	answer chan struct{}
}

func (f slowFinder) Find(ctx context.Context, subject, id string, now time.Time) (issuer.Record, error) {
	<-f.answer
	return f.Finder.Find(ctx, subject, id, now)
}

// TestLedgerFallback_BackfillsReadThatTookTooLong: an overloaded ledger must not work in vain.
func TestLedgerFallback_BackfillsReadThatTookTooLong(t *testing.T) {
	w := newTwoServers(t)
	set, _ := w.Start(t)
	w.a.PollEpochs(t.Context())
	f := w.a.Fallback.(*issuer.LedgerFallback)
	slow := slowFinder{w.ledger, make(chan struct{})}
	f.Finder, f.Timeout = slow, time.Millisecond
	if _, err := w.a.Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a read that takes too long: %v, want ErrUnavailable", err)
	}
	close(slow.answer)
	eventually(t, "the read was backfilled", func() bool {
		w.a.PollEpochs(t.Context())
		before := w.ledger.finds.Load()
		_, err := w.a.Verify(t.Context(), set.AccessToken)
		return err == nil && w.ledger.finds.Load() == before
	})
}

// eventually waits until done reports true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
