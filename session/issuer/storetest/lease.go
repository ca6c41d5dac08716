package storetest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

var leaseTests = []test{
	{"a lease is held by one", func(s *suite) {
		s.lease()
		if _, ok := s.tryLease(s.subject); ok {
			s.Error("a second one got the lease")
		}
	}},
	{"of many that ask at once, one gets the lease", func(s *suite) {
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
			s.Errorf("%d got the lease", got.Load())
		}
	}},
	{"each subject has a lease of its own", func(s *suite) {
		s.lease()
		if _, ok := s.tryLease(issuer.NewID()); !ok {
			s.Error("another subject's lease was not to be had")
		}
	}},
	{"a lease ends after LeaseTTL, and its holder has lost it", func(s *suite) {
		started := time.Now()
		old := s.lease()
		var fresh string
		s.eventually(2*issuer.LeaseTTL, "the lease expires", func() (ok bool) {
			fresh, ok = s.tryLease(s.subject)
			return ok
		})
		// Servers count in whole milliseconds.
		if took := time.Since(started); took < issuer.LeaseTTL-10*time.Millisecond {
			s.Errorf("the lease ended after %v", took)
		}
		if fresh == old {
			s.Error("two leases are the same")
		}
		ref := s.ref()
		if s.putBack(old, ref, s.active(1)) {
			s.Error("put back under a lease that had expired")
		}
		s.wantNothing(ref)
		// The attempt did not take the lease from its new holder.
		if !s.putBack(fresh, ref, s.active(1)) {
			s.Error("the new holder could not put back")
		}
	}},
	{"putting back gives the lease back", func(s *suite) {
		s.fill(s.ref(), s.active(1))
		s.lease()
	}},
	{"a put-back that is refused for a higher generation gives the lease back too", func(s *suite) {
		s.fill(s.ref(), s.active(2))
		if s.putBack(s.lease(), s.ref(), s.active(1)) {
			s.Error("put back below a higher generation")
		}
		s.lease()
	}},
	{"every kind of revocation ends the lease", func(s *suite) {
		ref := s.ref()
		for _, r := range []issuer.Revocation{s.endOf(ref), s.endOfToken(ref), s.endOfAll(2, ""), s.endOfAll(3, ref.SessionID)} {
			s.lease()
			s.apply(r)
			lease := s.lease() // which the next one has to end
			s.apply(r)
			if s.putBack(lease, ref, s.active(9)) {
				s.Errorf("put back after %+v", r)
			}
		}
	}},
}
