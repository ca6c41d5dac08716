package session_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
)

// owe records the end of a session as a replica does that dies before it can tell
// the store; the session was checked before.
func (w *world) owe(t *testing.T) (token string) {
	t.Helper()
	set, s := w.start(t)
	if _, err := w.replica(1).Verify(t.Context(), set.AccessToken); err != nil {
		t.Fatal(err)
	}
	end := session.Ending{At: time.Now(), Reason: session.ReasonRevoked, By: session.ByUser}
	if _, _, err := w.replica(0).Ledger.Revoke(t.Context(), w.user.ID, s.ID, end); err != nil {
		t.Fatal(err)
	}
	if _, err := w.replica(1).Verify(t.Context(), set.AccessToken); err != nil {
		t.Fatalf("in force already: %v", err)
	}
	return set.AccessToken
}

func (w *world) wantRevoked(t *testing.T, token string) {
	t.Helper()
	if _, err := w.replica(1).Verify(t.Context(), token); !errors.Is(err, session.ErrRevoked) {
		t.Errorf("Verify = %v", err)
	}
}

// A replica that cannot reach the store leaves what is owed to one that can.
func TestRevocationsAreLeftToWhoReachesTheStore(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		away, err := redisstore.Open("redis://127.0.0.1:1", redisstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer away.Close()
		w.replica(0).Store = away
		token := w.owe(t)
		if err := w.replica(0).FinishRevocations(t.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("without the store: %v", err)
		}
		if err := w.replica(2).FinishRevocations(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantRevoked(t, token)
	})
}

// without is a store that cannot be told of one subject, like a Cluster of which
// one server is away.
type without struct {
	session.Store
	subject string
}

func (s without) Apply(ctx context.Context, r session.Revocation) error {
	if r.Subject == s.subject {
		return session.ErrUnavailable
	}
	return s.Store.Apply(ctx, r)
}

// One revocation that cannot be put in force holds up no later one.
func TestRevocationsDoNotHoldUpEachOther(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		other := session.Subject{ID: addUser(t, w.db), CredentialVersion: 1}
		w.replica(2).Store = without{w.replica(2).Store, w.user.ID}
		waits := w.owe(t)
		w.user = other
		token := w.owe(t)
		if err := w.replica(2).FinishRevocations(t.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("with one server away: %v", err)
		}
		w.wantRevoked(t, token)
		if _, err := w.replica(1).Verify(t.Context(), waits); err != nil {
			t.Errorf("what could not be told: %v", err)
		}
	})
}
