package issuer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/issuertest"
)

// recordOnly records the revocation of a session and does not enforce it, like a replica that stops
// between the two steps. The session was checked before, so the store has an active entry.
func recordOnly(t *testing.T, w *issuertest.World) (token string) {
	t.Helper()
	set, s := w.Start(t)
	if _, err := w.Replica(1).Verify(t.Context(), set.AccessToken); err != nil {
		t.Fatal(err)
	}
	end := issuer.Ending{At: time.Now(), Reason: issuer.ReasonRevoked, By: issuer.ByUser}
	if _, _, err := w.Replica(0).Ledger.Revoke(t.Context(), w.User.ID, s.ID, end); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Replica(1).Verify(t.Context(), set.AccessToken); err != nil {
		t.Fatalf("the revocation was already enforced: %v", err)
	}
	return set.AccessToken
}

func wantRevoked(t *testing.T, w *issuertest.World, token string) {
	t.Helper()
	if _, err := w.Replica(1).Verify(t.Context(), token); !errors.Is(err, session.ErrRevoked) {
		t.Errorf("Verify returned %v, want ErrRevoked", err)
	}
}

// A replica that cannot reach the store must claim no revocations, so that a replica which can
// reach the store enforces them.
func TestEnforceDue_ClaimsNothingIfStoreIsDown(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		away, err := redisstore.Open("redis://127.0.0.1:1", redisstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer away.Close()
		token := recordOnly(t, w)
		w.Replica(0).Store = away
		w.Replica(0).PollEpochs(t.Context())
		if err := w.Replica(0).EnforceDue(t.Context()); err != nil {
			t.Errorf("without the store: %v", err)
		}
		if err := w.Replica(2).EnforceDue(t.Context()); err != nil {
			t.Error(err)
		}
		wantRevoked(t, w, token)
	})
}

// partialStore is a store that cannot apply the revocations of one subject, like a Redis Cluster
// with one server down.
type partialStore struct {
	issuer.Store
	subject string
	failed  *atomic.Int64
}

func (s partialStore) Apply(ctx context.Context, r issuer.Revocation) ([]string, error) {
	if r.Subject == s.subject {
		s.failed.Add(1)
		return nil, session.ErrUnavailable
	}
	return s.Store.Apply(ctx, r)
}

func TestEnforceDue_EnforcesOtherRevocationsIfOneFails(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		other := issuertest.AddUser(t, w.DB)
		w.Replica(2).Store = partialStore{w.Replica(2).Store, w.User.ID, new(atomic.Int64)}
		waits := recordOnly(t, w)
		w.User = other
		token := recordOnly(t, w)
		if err := w.Replica(2).EnforceDue(t.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("with one server away: %v", err)
		}
		wantRevoked(t, w, token)
		if _, err := w.Replica(1).Verify(t.Context(), waits); err != nil {
			t.Errorf("the revocation that failed: %v", err)
		}
	})
}

// TestStart_TriesOneDisplacedSessionOfAServerThatIsDown: a login must not wait for many timeouts.
func TestStart_TriesOneDisplacedSessionOfAServerThatIsDown(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		for range 5 {
			w.Start(t)
		}
		failed := new(atomic.Int64)
		m := w.Replica(0)
		m.Store, m.MaxSessions, m.EndOldest = partialStore{m.Store, w.User.ID, failed}, 1, true
		w.Start(t)
		if got := failed.Load(); got != 1 {
			t.Errorf("a login that displaced 5 sessions asked the store %d times, want once", got)
		}
		due, err := m.Ledger.DueRevocations(t.Context(), time.Now(), time.Second, 10)
		if err != nil || len(due) != 5 {
			t.Errorf("%d revocations wait in the outbox, want 5: %v", len(due), err)
		}
	})
}

// TestVerify_AcceptsKeptSessionBeforeStoreKnowsOfRevokeAll: RevokeAll is committed and the store
// does not know of it yet. A check of another session backfills the store, and must not sign the kept
// session out by that.
func TestVerify_AcceptsKeptSessionBeforeStoreKnowsOfRevokeAll(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		kept, keptSession := w.Start(t)
		other, _ := w.Start(t)
		if _, err := w.Replica(1).Verify(t.Context(), kept.AccessToken); err != nil {
			t.Fatal(err)
		}
		end := issuer.Ending{At: time.Now(), Reason: issuer.ReasonRevokedOthers, By: issuer.ByUser}
		if _, _, err := w.Replica(0).Ledger.RevokeAll(t.Context(), w.User.ID, keptSession.ID, end); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first check of each backfills the store
			if _, err := w.Replica(1).Verify(t.Context(), other.AccessToken); !errors.Is(err, session.ErrRevoked) {
				t.Errorf("the other session: %v, want ErrRevoked", err)
			}
			if _, err := w.Replica(2).Verify(t.Context(), kept.AccessToken); err != nil {
				t.Errorf("the kept session is refused: %v", err)
			}
		}
	})
}
