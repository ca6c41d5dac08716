package storetest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

var leaseTests = []test{
	{"a second caller does not get the lease", func(s *suite) {
		s.lease()
		if _, ok := s.tryLease(s.subject); ok {
			s.Error("a second caller got the lease")
		}
	}},
	{"exactly one of many concurrent callers gets the lease", func(s *suite) {
		var got atomic.Int32
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				_, ok, err := s.Lease(s.ctx, s.subject)
				if err != nil {
					s.Errorf("Lease: %v", err)
				}
				if ok {
					got.Add(1)
				}
			})
		}
		wg.Wait()
		if got.Load() != 1 {
			s.Errorf("%d callers got the lease, want 1", got.Load())
		}
	}},
	{"two callers can hold the leases of two subjects at the same time", func(s *suite) {
		s.lease()
		if _, ok := s.tryLease(issuer.NewID()); !ok {
			s.Error("the lease of another subject was refused")
		}
	}},
	{"the lease ends after LeaseTTL, and then another caller can get it", func(s *suite) {
		started := time.Now()
		old := s.lease()
		var fresh string
		s.eventually(2*issuer.LeaseTTL, "the lease expires", func() (ok bool) {
			fresh, ok = s.tryLease(s.subject)
			return ok
		})
		// The test allows a lease to end 10 ms early, because Redis counts whole milliseconds.
		if took := time.Since(started); took < issuer.LeaseTTL-10*time.Millisecond {
			s.Errorf("the lease ended after %v", took)
		}
		if fresh == old {
			s.Error("two callers got the same lease")
		}
		ref := s.ref()
		if s.tryBackfill(old, ref, s.active(1)) {
			s.Error("backfilled with an expired lease")
		}
		s.wantNothing(ref)
		// The refused backfill must not have ended the lease of the new holder.
		if !s.tryBackfill(fresh, ref, s.active(1)) {
			s.Error("a backfill by the new holder of the lease was refused")
		}
	}},
	{"a successful backfill ends the lease", func(s *suite) {
		s.backfill(s.ref(), s.active(1))
		s.lease()
	}},
	{"a backfill that is refused because of its generation ends the lease", func(s *suite) {
		s.backfill(s.ref(), s.active(2))
		if s.tryBackfill(s.lease(), s.ref(), s.active(1)) {
			s.Error("backfilled a generation below the stored one")
		}
		s.lease()
	}},
	{"every kind of revocation ends the lease", func(s *suite) {
		ref := s.ref()
		for _, r := range []issuer.Revocation{s.sessionRevocation(ref), s.tokenRevocation(ref), s.subjectRevocation(2, ""), s.subjectRevocation(3, ref.SessionID)} {
			s.lease()
			s.apply(r)
			lease := s.lease()
			s.apply(r)
			if s.tryBackfill(lease, ref, s.active(9)) {
				s.Errorf("backfilled with a lease from before %+v", r)
			}
		}
	}},
}
