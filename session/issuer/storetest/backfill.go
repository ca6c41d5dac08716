package storetest

import (
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

var backfillTests = []test{
	{"refuses a caller that does not hold the lease", func(s *suite) {
		ref := s.ref()
		for _, lease := range []string{"", issuer.NewID()} {
			if s.tryBackfill(lease, ref, s.active(1)) {
				s.Errorf("backfilled with the lease %q, which nobody holds", lease)
			}
		}
		held := s.lease(ref)
		for _, lease := range []string{"", issuer.NewID(), held + "x", held[1:]} {
			if s.tryBackfill(lease, ref, s.active(1)) {
				s.Errorf("backfilled with the lease %q while another caller holds the lease", lease)
			}
		}
		s.wantNothing(ref)
		if !s.tryBackfill(held, ref, s.active(1)) {
			s.Error("the holder of the lease was refused after other callers were refused")
		}
	}},
	{"accepts a lease once", func(s *suite) {
		ref := s.ref()
		lease := s.lease(ref)
		if !s.tryBackfill(lease, ref, s.active(1)) {
			s.Fatal("the first backfill was refused")
		}
		if s.tryBackfill(lease, ref, s.active(2)) {
			s.Error("the second backfill was accepted")
		}
		s.wantEntry(ref, s.active(1).Entry)
	}},
	{"refuses another session's lease", func(s *suite) {
		lease := s.lease(s.ref())
		for _, foreign := range []session.Ref{s.ref(), {Subject: issuer.NewID(), SessionID: issuer.NewID(), TokenID: issuer.NewID()}} {
			if s.tryBackfill(lease, foreign, s.active(1)) {
				s.Errorf("backfilled %+v", foreign)
			}
			s.wantNothing(foreign)
		}
	}},
	{"refuses a lease that was taken before a revocation of the same subject", func(s *suite) {
		one, other := s.ref(), s.ref()
		for _, r := range []issuer.Revocation{
			s.sessionRevocation(one), s.tokenRevocation(one), s.subjectRevocation(2, ""), s.subjectRevocation(2, one.SessionID),
			s.sessionRevocation(other), s.tokenRevocation(other),
		} {
			lease := s.lease(one)
			s.apply(r)
			if s.tryBackfill(lease, one, s.active(5)) {
				s.Errorf("backfilled after %+v with a lease from before it", r)
			}
			if v := s.look(one); v.HasEntry && !v.Entry.Ended {
				s.Errorf("after %+v: %+v", r, v)
			}
			if v := s.look(one); v.HasGeneration {
				s.Errorf("a refused backfill stored the generation: %+v", v)
			}
		}
	}},
	{"accepts a lease that was taken after a revocation of the same subject", func(s *suite) {
		one, other := s.ref(), s.ref()
		s.apply(s.sessionRevocation(one))
		s.backfill(other, s.active(1))
		s.wantEntry(other, s.active(1).Entry)
		s.wantEnded(one)
	}},
	{"refuses a generation below the stored generation", func(s *suite) {
		s.backfill(s.ref(), s.active(5))
		ref := s.ref()
		if s.tryBackfill(s.lease(ref), ref, s.active(4)) {
			s.Error("backfilled a generation below the stored one")
		}
		s.wantNoEntry(ref)
		s.wantGeneration(5)
	}},
	{"accepts a generation equal to the stored generation", func(s *suite) {
		s.backfill(s.ref(), s.active(5))
		ref := s.ref()
		s.backfill(ref, s.active(5))
		s.wantEntry(ref, s.active(5).Entry)
	}},
	{"stores the subject's generation and not the session's generation", func(s *suite) {
		ref := s.ref()
		snapshot := s.active(5)
		snapshot.Entry.Generation = 3
		s.backfill(ref, snapshot)
		s.wantEntry(ref, snapshot.Entry)
		s.wantGeneration(5)
	}},
	// Otherwise a backfill would make the entries of all other sessions out of date, before the
	// revocation that raised the generation in the ledger is enforced.
	{"stores an entry above the stored generation and does not raise that", func(s *suite) {
		old, newer := s.ref(), s.ref()
		s.backfill(old, s.active(9)) // as text, 9 is above 10
		s.backfill(newer, s.active(10))
		s.wantGeneration(9)
		s.wantEntry(old, s.active(9).Entry)
		s.wantEntry(newer, s.active(10).Entry)
	}},
	{"replaces an earlier entry of the same session", func(s *suite) {
		ref := s.ref()
		s.backfill(ref, s.active(1))
		snapshot := s.active(2)
		snapshot.Entry.RevokedTokens = []string{ref.TokenID}
		s.backfill(ref, snapshot)
		s.wantEntry(ref, snapshot.Entry)
		s.backfill(ref, s.ended(2))
		s.wantEnded(ref)
	}},
	{"does not make the generation expire earlier", func(s *suite) {
		s.backfill(s.ref(), s.active(1))
		snapshot := s.active(2)
		snapshot.SubjectUntil = time.Now().Add(-time.Hour - issuer.Margin)
		s.backfill(s.ref(), snapshot)
		s.wantGeneration(1)
	}},
	{"refuses a snapshot that has already expired", func(s *suite) {
		for _, until := range []time.Time{time.Now().Add(-time.Second - issuer.Margin), time.Unix(0, 0), {}} {
			ref := s.ref()
			snapshot := s.active(1)
			snapshot.Until, snapshot.SubjectUntil = until, until
			if s.tryBackfill(s.lease(ref), ref, snapshot) {
				s.Errorf("backfilled although it expired at %v", until)
			}
			s.wantNothing(ref)
		}
	}},
}
