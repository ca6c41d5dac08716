package storetest

import (
	"slices"
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

var applyTests = []test{
	{"a session that ended shows as ended, whatever was known of it", func(s *suite) {
		known, unknown, other := s.ref(), s.ref(), s.ref()
		s.fill(known, s.active(1))
		s.fill(other, s.active(1))
		s.apply(s.endOf(known))
		s.apply(s.endOf(unknown))
		s.wantEnded(known)
		s.wantEnded(unknown)
		s.wantEntry(other, s.active(1).Entry)
	}},
	{"an ended session stays ended when an old reading of it comes late", func(s *suite) {
		ref := s.ref()
		s.fill(ref, s.active(1))
		lease := s.lease()
		s.apply(s.endOf(ref))
		if s.putBack(lease, ref, s.active(1)) {
			s.Error("put back under a lease from before the end")
		}
		s.wantEnded(ref)
	}},
	{"a token revoked by itself is blacklisted, and its session is read anew", func(s *suite) {
		ref := s.ref()
		sibling := session.Ref{Subject: ref.Subject, SessionID: ref.SessionID, TokenID: issuer.NewID()}
		other := s.ref()
		s.fill(ref, s.active(1))
		s.fill(other, s.active(1))
		s.apply(s.endOfToken(ref))
		s.wantBlacklisted(ref, true)
		s.wantBlacklisted(sibling, false)
		s.wantNoEntry(sibling)
		s.wantEntry(other, s.active(1).Entry)
		s.wantGeneration(1)

		fill := s.active(1)
		fill.Entry.RevokedTokens = []string{ref.TokenID}
		s.fill(ref, fill)
		s.wantBlacklisted(ref, true)
		s.wantEntry(sibling, fill.Entry)
	}},
	{"raising the generation puts every older entry below it, and is one write", func(s *suite) {
		refs := []session.Ref{s.ref(), s.ref(), s.ref()}
		for _, ref := range refs {
			s.fill(ref, s.active(1))
		}
		s.apply(s.endOfAll(2, ""))
		for _, ref := range refs {
			if v := s.look(ref); !v.HasGeneration || v.Generation != 2 || !v.HasEntry || v.Entry.Generation != 1 {
				s.Errorf("Look = %+v, want an entry of generation 1 under generation 2", v)
			}
		}
	}},
	{"the kept session's entry is dropped, and no other", func(s *suite) {
		kept, other := s.ref(), s.ref()
		s.fill(kept, s.active(1))
		s.fill(other, s.active(1))
		s.apply(s.endOfAll(2, kept.SessionID))
		s.wantNoEntry(kept)
		s.wantEntry(other, s.active(1).Entry)
		s.wantGeneration(2)
		s.fill(kept, s.active(2))
		s.wantEntry(kept, s.active(2).Entry)
	}},
	{"a late revocation does not lower the generation", func(s *suite) {
		s.fill(s.ref(), s.active(9))
		s.apply(s.endOfAll(10, "")) // as text, 10 is below 9
		s.apply(s.endOfAll(3, ""))
		s.wantGeneration(10)
	}},
	// Creating it would let an old revocation, applied again after the store had
	// lost a newer one, bring back what only the newer one had ended.
	{"a revocation does not create a generation that the store does not know", func(s *suite) {
		s.apply(s.endOfAll(2, ""))
		s.wantNothing(s.ref())
		s.apply(s.endOfAll(2, s.ref().SessionID))
		s.wantNothing(s.ref())
	}},
	{"an earlier time does not shorten the generation's", func(s *suite) {
		s.fill(s.ref(), s.active(1))
		for i, until := range []time.Time{time.Now().Add(-time.Second - issuer.Margin), time.Unix(0, 0), {}} {
			r := s.endOfAll(int64(i)+2, "")
			r.Until = until
			s.apply(r)
			s.wantGeneration(int64(i) + 2)
		}
	}},
	{"applying twice is applying once", func(s *suite) {
		one, two, three := s.ref(), s.ref(), s.ref()
		s.fill(one, s.active(1))
		s.fill(two, s.active(1))
		s.fill(three, s.active(1))
		revocations := []issuer.Revocation{s.endOf(one), s.endOfToken(two), s.endOfAll(2, three.SessionID)}
		for range 2 {
			for _, r := range slices.Concat(revocations, revocations) {
				s.apply(r)
			}
			slices.Reverse(revocations)
		}
		s.wantEnded(one)
		s.wantBlacklisted(two, true)
		s.wantNoEntry(three)
		s.wantGeneration(2)
	}},
	{"what is past its time can be applied, and leaves nothing", func(s *suite) {
		for _, until := range []time.Time{time.Now().Add(-time.Second - issuer.Margin), time.Unix(0, 0), {}} {
			ref := s.ref()
			for _, r := range []issuer.Revocation{s.endOf(ref), s.endOfToken(ref), s.endOfAll(2, ref.SessionID)} {
				r.Until = until
				s.apply(r)
			}
			s.wantNothing(ref)
		}
	}},
	{"a revocation of nothing is refused, and not as a failure of the store", func(s *suite) {
		if err := s.Apply(s.ctx, issuer.Revocation{Subject: s.subject, Until: s.until}); err == nil {
			s.Error("Apply accepted a revocation that ends nothing")
		}
	}},
}
