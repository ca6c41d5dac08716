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

// shakyLedger is a ledger that can lose the replies to refreshes, or be down.
type shakyLedger struct {
	issuer.Ledger
	lost, away *bool // lost: replies to refreshes get lost; away: the ledger is down
}

func (l shakyLedger) Rotate(ctx context.Context, family issuer.Hash, decide func(issuer.Rotatable) (issuer.Rotation, error)) (issuer.Session, *issuer.Revocation, error) {
	s, revocation, err := l.Ledger.Rotate(ctx, family, decide)
	if *l.lost || *l.away {
		return issuer.Session{}, nil, session.ErrUnavailable
	}
	return s, revocation, err
}

func (l shakyLedger) DueRevocations(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]issuer.Revocation, error) {
	if *l.away {
		return nil, session.ErrUnavailable
	}
	return l.Ledger.DueRevocations(ctx, now, lease, limit)
}

// A client that lost the reply to its refresh in an outage can fetch the reply after the outage,
// from every replica and however long the outage lasted.
func TestRefresh_LostReplyCanBeFetchedAfterLongOutage(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		now, lost, away := time.Now(), false, false
		for _, m := range w.Replicas {
			m.Ledger, m.Now = shakyLedger{m.Ledger, &lost, &away}, func() time.Time { return now }
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
			t.Errorf("at another replica: %v, same successor: %t", err, elsewhere == again)
		}
		if _, err := refresh(1, earlier.RefreshToken); !errors.Is(err, session.ErrInvalidToken) {
			t.Errorf("a token whose grace had ended before the outage: %v", err)
		}
		pass(grace)
		if _, err := refresh(1, first.RefreshToken); !errors.Is(err, session.ErrInvalidToken) {
			t.Errorf("long after the outage: %v", err)
		}

		// Failed requests do not count as an outage, because clients can cause them.
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
			t.Errorf("after requests had failed for longer than the grace: %v", err)
		}
	})
}
