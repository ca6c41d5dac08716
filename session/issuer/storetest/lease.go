package storetest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

var leaseTests = []test{
	{"gives the lease to one holder", func(s *suite) {
		ref := s.ref()
		s.lease(ref)
		if _, ok := s.tryLease(ref); ok {
			s.Error("a second caller got the lease")
		}
	}},
	{"gives the lease to one of many concurrent callers", func(s *suite) {
		ref := s.ref()
		var got atomic.Int32
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				_, ok, err := s.Lease(s.ctx, ref)
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
		s.lease(s.ref())
		s.subject = issuer.NewID()
		s.lease(s.ref())
	}},
	// So each session of a user is read once, however many of them are checked at the same time.
	{"is separate for each session, and a revocation of one session ends all of them", func(s *suite) {
		one, two, three := s.ref(), s.ref(), s.ref()
		first, second, third := s.lease(one), s.lease(two), s.lease(three)
		if !s.tryBackfill(second, two, s.active(1)) || !s.tryBackfill(first, one, s.active(1)) {
			s.Error("a backfill with a lease beside others was refused")
		}
		s.apply(s.subjectRevocation(2, ""))
		if s.tryBackfill(third, three, s.active(5)) {
			s.Error("backfilled with a lease from before a revocation")
		}
	}},
	{"ends after LeaseTTL, and its holder loses it", func(s *suite) {
		ref := s.ref()
		started := time.Now()
		old := s.lease(ref)
		var fresh string
		s.eventually(2*issuer.LeaseTTL, "the lease expires", func() (ok bool) {
			fresh, ok = s.tryLease(ref)
			return ok
		})
		// The test allows a lease to end 10 ms early, because Redis counts whole milliseconds.
		if took := time.Since(started); took < issuer.LeaseTTL-10*time.Millisecond {
			s.Errorf("the lease ended after %v", took)
		}
		if fresh == old {
			s.Error("two callers got the same lease")
		}
		if s.tryBackfill(old, ref, s.active(1)) {
			s.Error("backfilled with an expired lease")
		}
		s.wantNothing(ref)
		// The refused backfill must not have ended the lease of the new holder.
		if !s.tryBackfill(fresh, ref, s.active(1)) {
			s.Error("a backfill by the new holder of the lease was refused")
		}
	}},
	{"ends with a backfill", func(s *suite) {
		ref := s.ref()
		s.backfill(ref, s.active(1))
		s.lease(ref)
	}},
	{"a backfill that is refused because of its generation ends the lease", func(s *suite) {
		s.backfill(s.ref(), s.active(2))
		ref := s.ref()
		if s.tryBackfill(s.lease(ref), ref, s.active(1)) {
			s.Error("backfilled a generation below the stored one")
		}
		s.lease(ref)
	}},
	{"ends with every kind of revocation", func(s *suite) {
		for i := range 4 {
			ref := s.ref()
			r := []issuer.Revocation{s.sessionRevocation(ref), s.tokenRevocation(ref), s.subjectRevocation(2, ""), s.subjectRevocation(3, ref.SessionID)}[i]
			lease := s.lease(ref)
			s.apply(r)
			if s.tryBackfill(lease, ref, s.active(9)) {
				s.Errorf("backfilled with a lease from before %+v", r)
			}
		}
	}},
}
