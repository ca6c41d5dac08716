package storetest

import (
	"slices"
	"sync"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

var raceTests = []test{
	{"while a session is put back, it is not active once its end was applied", func(s *suite) {
		for range 20 {
			s.subject = issuer.NewID()
			ref := s.ref()
			s.race(ref, s.endOf(ref), s.ended(1))
		}
	}},
	{"while a session is put back, its token is not active once it was revoked", func(s *suite) {
		for range 20 {
			s.subject = issuer.NewID()
			ref := s.ref()
			after := s.active(1)
			after.Entry.RevokedTokens = []string{ref.TokenID}
			s.race(ref, s.endOfToken(ref), after)
		}
	}},
	{"while a session is put back, it is not active once all were ended", func(s *suite) {
		for range 20 {
			s.subject = issuer.NewID()
			s.race(s.ref(), s.endOfAll(2, ""), s.ended(2))
		}
	}},
	{"while the others are ended, the kept session is never below the generation", func(s *suite) {
		for range 50 {
			s.subject = issuer.NewID()
			kept := s.ref()
			s.fill(kept, s.active(1))
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := s.Apply(s.ctx, s.endOfAll(2, kept.SessionID)); err != nil {
					s.Errorf("Apply: %v", err)
				}
			})
			for range 4 {
				wg.Go(func() {
					v, err := s.Look(s.ctx, kept)
					if err != nil || v.HasEntry && v.HasGeneration && v.Entry.Generation < v.Generation {
						s.Errorf("Look = %+v, %v: this would sign the kept session out", v, err)
					}
				})
			}
			wg.Wait()
		}
	}},
}

// race lets many put a session back while r is applied: as active when they
// read before r was committed, and as after when they read it later.
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
				if err := s.putBackOnce(ref, committed, after); err != nil {
					s.Errorf("put back: %v", err)
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
		known := v.HasEntry && v.HasGeneration
		revoked := v.TokenRevoked || v.Entry.Ended || v.Entry.Generation < v.Generation ||
			slices.Contains(v.Entry.RevokedTokens, ref.TokenID)
		if known && !revoked {
			s.Errorf("active after %+v: %+v", r, v)
		}
	}
}

// putBackOnce does what a check does that the store could not answer.
func (s *suite) putBackOnce(ref session.Ref, committed <-chan struct{}, after issuer.Snapshot) error {
	lease, ok, err := s.Lease(s.ctx, ref.Subject)
	if err != nil || !ok {
		return err
	}
	fill := s.active(1)
	select {
	case <-committed:
		fill = after
	default:
	}
	_, err = s.Backfill(s.ctx, lease, ref, fill)
	return err
}
