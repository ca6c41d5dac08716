package storetest

import (
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

var putBackTests = []test{
	{"nothing is put back without the lease", func(s *suite) {
		ref := s.ref()
		for _, lease := range []string{"", issuer.NewID()} {
			if s.putBack(lease, ref, s.active(1)) {
				s.Errorf("put back under the lease %q, which nobody held", lease)
			}
		}
		held := s.lease()
		for _, lease := range []string{"", issuer.NewID(), held + "x", held[1:]} {
			if s.putBack(lease, ref, s.active(1)) {
				s.Errorf("put back under the lease %q, where another is held", lease)
			}
		}
		s.wantNothing(ref)
		if !s.putBack(held, ref, s.active(1)) {
			s.Error("the holder could not put back after the others had tried")
		}
	}},
	{"a lease is good for one put-back", func(s *suite) {
		lease := s.lease()
		if !s.putBack(lease, s.ref(), s.active(1)) {
			s.Fatal("the first was refused")
		}
		ref := s.ref()
		if s.putBack(lease, ref, s.active(1)) {
			s.Error("the second was done")
		}
		s.wantNoEntry(ref)
	}},
	{"a lease is good for its own subject only", func(s *suite) {
		lease := s.lease()
		stranger := session.Ref{Subject: issuer.NewID(), SessionID: issuer.NewID(), TokenID: issuer.NewID()}
		if s.putBack(lease, stranger, s.active(1)) {
			s.Error("put back for another subject")
		}
		s.wantNothing(stranger)
	}},
	{"what was read before a revocation is not put back after it", func(s *suite) {
		one, other := s.ref(), s.ref()
		for _, r := range []issuer.Revocation{
			s.endOf(one), s.endOfToken(one), s.endOfAll(2, ""), s.endOfAll(2, one.SessionID),
			s.endOf(other), s.endOfToken(other),
		} {
			lease := s.lease()
			s.apply(r)
			if s.putBack(lease, one, s.active(5)) {
				s.Errorf("put back although %+v came in between", r)
			}
			if v := s.look(one); v.HasEntry && !v.Entry.Ended {
				s.Errorf("after %+v: %+v", r, v)
			}
			if v := s.look(one); v.HasGeneration {
				s.Errorf("a put-back that was refused left the generation: %+v", v)
			}
		}
	}},
	{"what is read after a revocation can be put back", func(s *suite) {
		one, other := s.ref(), s.ref()
		s.apply(s.endOf(one))
		s.fill(other, s.active(1))
		s.wantEntry(other, s.active(1).Entry)
		s.wantEnded(one)
	}},
	{"nothing is put back below a higher generation", func(s *suite) {
		s.fill(s.ref(), s.active(5))
		ref := s.ref()
		if s.putBack(s.lease(), ref, s.active(4)) {
			s.Error("put back below a higher generation")
		}
		s.wantNoEntry(ref)
		s.wantGeneration(5)
	}},
	{"an equal generation is no higher one", func(s *suite) {
		s.fill(s.ref(), s.active(5))
		ref := s.ref()
		s.fill(ref, s.active(5))
		s.wantEntry(ref, s.active(5).Entry)
	}},
	{"the generation that is put back is the subject's, not the entry's", func(s *suite) {
		ref := s.ref()
		fill := s.active(5)
		fill.Entry.Generation = 3
		s.fill(ref, fill)
		s.wantEntry(ref, fill.Entry)
		s.wantGeneration(5)
	}},
	{"a put-back raises the generation", func(s *suite) {
		old := s.ref()
		s.fill(old, s.active(9)) // as text, 9 is above 10
		s.fill(s.ref(), s.active(10))
		s.wantGeneration(10)
		s.wantEntry(old, s.active(9).Entry)
	}},
	{"a put-back replaces the entry", func(s *suite) {
		ref := s.ref()
		s.fill(ref, s.active(1))
		fill := s.active(2)
		fill.Entry.RevokedTokens = []string{ref.TokenID}
		s.fill(ref, fill)
		s.wantEntry(ref, fill.Entry)
		s.fill(ref, s.ended(2))
		s.wantEnded(ref)
	}},
	{"an earlier time does not shorten the generation's", func(s *suite) {
		s.fill(s.ref(), s.active(1))
		fill := s.active(2)
		fill.SubjectUntil = time.Now().Add(-time.Hour - issuer.Margin)
		s.fill(s.ref(), fill)
		s.wantGeneration(2)
	}},
	{"what is past its time is not put back", func(s *suite) {
		for _, until := range []time.Time{time.Now().Add(-time.Second - issuer.Margin), time.Unix(0, 0), {}} {
			ref := s.ref()
			fill := s.active(1)
			fill.Until, fill.SubjectUntil = until, until
			if s.putBack(s.lease(), ref, fill) {
				s.Errorf("put back although its time was %v", until)
			}
			s.wantNothing(ref)
		}
	}},
}
