package storetest

import (
	"slices"
	"sync"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

var raceTests = []test{
	{"a backfill does not revive a revoked session", func(s *suite) {
		for range 20 {
			s.subject = issuer.NewID()
			ref := s.ref()
			s.race(ref, s.sessionRevocation(ref), s.ended(1))
		}
	}},
	{"a backfill does not revive a revoked token", func(s *suite) {
		for range 20 {
			s.subject = issuer.NewID()
			ref := s.ref()
			after := s.active(1)
			after.Entry.RevokedTokens = []string{ref.TokenID}
			s.race(ref, s.tokenRevocation(ref), after)
		}
	}},
	{"a backfill does not revive a session after all sessions were revoked", func(s *suite) {
		for range 20 {
			s.subject = issuer.NewID()
			s.race(s.ref(), s.subjectRevocation(2, ""), s.ended(2))
		}
	}},
	{"a lookup never reports the kept session as revoked while all other sessions are revoked", func(s *suite) {
		for range 50 {
			s.subject = issuer.NewID()
			kept := s.ref()
			s.backfill(kept, s.active(1))
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := s.Apply(s.ctx, s.subjectRevocation(2, kept.SessionID)); err != nil {
					s.Errorf("Apply: %v", err)
				}
			})
			for range 4 {
				wg.Go(func() {
					v, err := s.Look(s.ctx, kept)
					if err != nil || v.HasEntry && v.HasGeneration && v.Entry.Generation < v.Generation {
						s.Errorf("Look = %+v, %v, want the kept session not below the subject's generation", v, err)
					}
				})
			}
			wg.Wait()
		}
	}},
}

// race applies the revocation r while four replicas backfill a session. The replicas backfill an
// active session until r is committed to the ledger, and then the session's state after r. The
// session must not be active in the end.
func (s *suite) race(ref session.Ref, r issuer.Revocation, after issuer.Snapshot) {
	s.Helper()
	const replicas = 4
	committed, stop := make(chan struct{}), make(chan struct{})
	running := make(chan struct{}, replicas)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	for range replicas {
		wg.Go(func() {
			for first := true; ; first = false {
				if err := s.backfillOnce(ref, committed, after); err != nil {
					s.Errorf("Backfill: %v", err)
				}
				if first {
					running <- struct{}{}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range replicas {
		<-running
	}
	close(committed)
	s.apply(r)
	for range 5 {
		v := s.look(ref)
		complete := v.HasEntry && v.HasGeneration
		revoked := v.TokenRevoked || v.Entry.Ended || v.Entry.Generation < v.Generation ||
			slices.Contains(v.Entry.RevokedTokens, ref.TokenID)
		if complete && !revoked {
			s.Errorf("the session is active after %+v: %+v", r, v)
		}
	}
}

// backfillOnce takes the subject's lease and backfills the session's current state, as a check does
// if the store does not know the session.
func (s *suite) backfillOnce(ref session.Ref, committed <-chan struct{}, after issuer.Snapshot) error {
	lease, ok, err := s.Lease(s.ctx, ref)
	if err != nil || !ok {
		return err
	}
	snapshot := s.active(1)
	select {
	case <-committed:
		snapshot = after
	default:
	}
	_, err = s.Backfill(s.ctx, lease, ref, snapshot)
	return err
}
