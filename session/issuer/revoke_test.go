package issuer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/issuertest"
)

// owe records the end of a session as a replica does that dies before it can tell the store; the
// session was checked before.
func owe(t *testing.T, w *issuertest.World) (token string) {
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
		t.Fatalf("in force already: %v", err)
	}
	return set.AccessToken
}

func wantRevoked(t *testing.T, w *issuertest.World, token string) {
	t.Helper()
	if _, err := w.Replica(1).Verify(t.Context(), token); !errors.Is(err, session.ErrRevoked) {
		t.Errorf("Verify = %v", err)
	}
}

// A replica that cannot reach the store leaves what is owed to one that can.
func TestRevocationsAreLeftToWhoReachesTheStore(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		away, err := redisstore.Open("redis://127.0.0.1:1", redisstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer away.Close()
		w.Replica(0).Store = away
		token := owe(t, w)
		if err := w.Replica(0).EnforceDue(t.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("without the store: %v", err)
		}
		if err := w.Replica(2).EnforceDue(t.Context()); err != nil {
			t.Error(err)
		}
		wantRevoked(t, w, token)
	})
}

// without is a store that cannot be told of one subject, like a Cluster of which one server is
// away.
type without struct {
	issuer.Store
	subject string
}

func (s without) Apply(ctx context.Context, r issuer.Revocation) error {
	if r.Subject == s.subject {
		return session.ErrUnavailable
	}
	return s.Store.Apply(ctx, r)
}

// One revocation that cannot be put in force holds up no later one.
func TestRevocationsDoNotHoldUpEachOther(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		other := issuertest.AddUser(t, w.DB)
		w.Replica(2).Store = without{w.Replica(2).Store, w.User.ID}
		waits := owe(t, w)
		w.User = other
		token := owe(t, w)
		if err := w.Replica(2).EnforceDue(t.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("with one server away: %v", err)
		}
		wantRevoked(t, w, token)
		if _, err := w.Replica(1).Verify(t.Context(), waits); err != nil {
			t.Errorf("what could not be told: %v", err)
		}
	})
}
