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

// forgetfulLedger loses the replies to refreshes: the transaction commits and the caller gets an
// error.
type forgetfulLedger struct {
	issuer.Ledger
	lost *bool
}

func (l forgetfulLedger) Rotate(ctx context.Context, family issuer.Hash, decide func(issuer.Rotatable) (issuer.Rotation, error)) (issuer.Session, *issuer.Revocation, error) {
	s, revocation, err := l.Ledger.Rotate(ctx, family, decide)
	if *l.lost {
		return issuer.Session{}, nil, session.ErrUnavailable
	}
	return s, revocation, err
}

// A client that lost the reply to a refresh gets the same successor however late it comes back, from
// every replica. Only once the successor was used is the replaced token a stolen one.
func TestRefresh_ReturnsLostReplyHoweverLate(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		now, lost := time.Now(), false
		for _, m := range w.Replicas {
			m.Ledger, m.Now = forgetfulLedger{m.Ledger, &lost}, func() time.Time { return now }
		}
		for _, later := range []time.Duration{5 * time.Second, 35 * time.Second, time.Hour} {
			first, _ := w.Start(t)
			lost = true
			if _, _, err := w.Replica(0).Refresh(t.Context(), first.RefreshToken); !errors.Is(err, session.ErrUnavailable) {
				t.Fatal(err)
			}
			lost = false
			now = now.Add(later)
			second, _, err := w.Replica(1).Refresh(t.Context(), first.RefreshToken)
			if err != nil {
				t.Fatalf("%v after the lost reply: %v", later, err)
			}
			now = now.Add(later)
			again, _, err := w.Replica(2).Refresh(t.Context(), first.RefreshToken)
			if err != nil || again.RefreshToken != second.RefreshToken {
				t.Errorf("%v later: %v, same successor: %t", later, err, again.RefreshToken == second.RefreshToken)
			}
			third, _, err := w.Replica(0).Refresh(t.Context(), second.RefreshToken)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := w.Replica(1).Refresh(t.Context(), first.RefreshToken); !errors.Is(err, session.ErrInvalidToken) {
				t.Errorf("a token whose successor was used: %v, want ErrInvalidToken", err)
			}
			if _, _, err := w.Replica(1).Refresh(t.Context(), third.RefreshToken); !errors.Is(err, session.ErrInvalidToken) {
				t.Errorf("the newest token after the theft: %v, want ErrInvalidToken", err)
			}
		}
	})
}

func TestRefresh_EndsSessionAfterRefreshGrace(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *issuertest.World) {
		m, now := w.Replica(0), time.Now()
		m.Now = func() time.Time { return now }
		for _, grace := range []time.Duration{30 * time.Second, 0} {
			m.RefreshGrace = grace
			first, _ := w.Start(t)
			if _, _, err := m.Refresh(t.Context(), first.RefreshToken); err != nil {
				t.Fatal(err)
			}
			now = now.Add(grace)
			if _, _, err := m.Refresh(t.Context(), first.RefreshToken); !errors.Is(err, session.ErrInvalidToken) {
				t.Errorf("a repeated refresh %v later: %v, want ErrInvalidToken", grace, err)
			}
		}
	})
}
