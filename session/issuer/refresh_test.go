package issuer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/issuertest"
)

// shaky is a ledger that goes away: the answer to what it was told last is lost.
type shaky struct {
	issuer.Ledger
	lost, away *bool // the answers to refreshes; all of it
}

func (l shaky) Rotate(ctx context.Context, family issuer.Hash, decide func(issuer.Rotatable) (issuer.Rotation, error)) (issuer.Session, *issuer.Revocation, error) {
	s, revocation, err := l.Ledger.Rotate(ctx, family, decide)
	if *l.lost || *l.away {
		return issuer.Session{}, nil, session.ErrUnavailable
	}
	return s, revocation, err
}

func (l shaky) DueRevocations(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]issuer.Revocation, error) {
	if *l.away {
		return nil, session.ErrUnavailable
	}
	return l.Ledger.DueRevocations(ctx, now, lease, limit)
}

// Who lost the answer to a refresh to an outage gets it when that is over, however long it took and
// from whichever replica.
func TestRefreshAfterOutage(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		now, lost, away := time.Now(), false, false
		for _, m := range w.Replicas {
			m.Ledger, m.Now = shaky{m.Ledger, &lost, &away}, func() time.Time { return now }
		}
		refresh := func(i int, token string) (string, error) {
			set, _, err := w.Replica(i).Refresh(t.Context(), token)
			return set.RefreshToken, err
		}
		pass := func(d time.Duration) {
			for end := now.Add(d); now.Before(end); now = now.Add(time.Second) {
				for _, m := range w.Replicas {
					if err := m.EnforceDue(t.Context()); away != errors.Is(err, session.ErrUnavailable) {
						t.Fatal(err)
					}
				}
			}
		}
		grace := w.Replica(0).RefreshGrace
		earlier, _ := w.Start(t)
		if _, err := refresh(0, earlier.RefreshToken); err != nil {
			t.Fatal(err)
		}
		pass(grace)

		first, _ := w.Start(t)
		away = true
		if _, err := refresh(0, first.RefreshToken); !errors.Is(err, session.ErrUnavailable) {
			t.Fatal(err)
		}
		pass(3 * grace)
		away = false
		again, err := refresh(0, first.RefreshToken)
		if err != nil {
			t.Fatalf("after the outage: %v", err)
		}
		pass(grace / 2)
		if elsewhere, err := refresh(1, first.RefreshToken); err != nil || elsewhere != again {
			t.Errorf("by another replica: %v, the same successor: %t", err, elsewhere == again)
		}
		if _, err := refresh(1, earlier.RefreshToken); !errors.Is(err, session.ErrInvalidToken) {
			t.Errorf("one whose grace was over before: %v", err)
		}
		pass(grace)
		if _, err := refresh(1, first.RefreshToken); !errors.Is(err, session.ErrInvalidToken) {
			t.Errorf("long after the outage: %v", err)
		}

		// Requests that fail are no outage, however many.
		second, _ := w.Start(t)
		for range 5 {
			lost = true
			if _, err := refresh(0, second.RefreshToken); !errors.Is(err, session.ErrUnavailable) {
				t.Fatal(err)
			}
			lost = false
			pass(grace / 7)
		}
		pass(grace / 2)
		if _, err := refresh(0, second.RefreshToken); !errors.Is(err, session.ErrInvalidToken) {
			t.Errorf("after requests that failed for longer than the grace: %v", err)
		}
	})
}
