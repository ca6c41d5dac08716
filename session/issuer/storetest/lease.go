package storetest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

var leaseTests = []test{
	{"gives the lease to one holder", func(s *suite) {
		s.lease()
		if _, ok := s.tryLease(s.subject); ok {
			s.Error("a second caller got the lease")
		}
	}},
	{"gives the lease to one of many concurrent callers", func(s *suite) {
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
	{"is separate for each subject", func(s *suite) {
		s.lease()
		if _, ok := s.tryLease(issuer.NewID()); !ok {
			s.Error("another subject's lease was refused")
		}
	}},
	{"ends after LeaseTTL, and its holder loses it", func(s *suite) {
		started := time.Now()
		old := s.lease()
		var fresh string
		s.eventually(2*issuer.LeaseTTL, "the lease expires", func() (ok bool) {
			fresh, ok = s.tryLease(s.subject)
			return ok
		})
		// Servers count whole milliseconds.
		if took := time.Since(started); took < issuer.LeaseTTL-10*time.Millisecond {
			s.Errorf("the lease ended after %v", took)
		}
		if fresh == old {
			s.Error("two leases are the same")
		}
		ref := s.ref()
		if s.tryBackfill(old, ref, s.active(1)) {
			s.Error("backfilled with an expired lease")
		}
		s.wantNothing(ref)
		// The attempt did not take the lease from its new holder.
		if !s.tryBackfill(fresh, ref, s.active(1)) {
			s.Error("the new holder was refused")
		}
	}},
	{"ends with a backfill", func(s *suite) {
		s.backfill(s.ref(), s.active(1))
		s.lease()
	}},
	{"ends with a backfill that is refused for its generation", func(s *suite) {
		s.backfill(s.ref(), s.active(2))
		if s.tryBackfill(s.lease(), s.ref(), s.active(1)) {
			s.Error("backfilled a generation below the stored one")
		}
		s.lease()
	}},
	{"ends with every kind of revocation", func(s *suite) {
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
