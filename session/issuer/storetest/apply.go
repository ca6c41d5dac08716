package storetest

import (
	"slices"
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

var applyTests = []test{
	{"marks a revoked session as ended, even if the store has no entry of the session", func(s *suite) {
		known, unknown, other := s.ref(), s.ref(), s.ref()
		s.backfill(known, s.active(1))
		s.backfill(other, s.active(1))
		s.apply(s.sessionRevocation(known))
		s.apply(s.sessionRevocation(unknown))
		s.wantEnded(known)
		s.wantEnded(unknown)
		s.wantEntry(other, s.active(1).Entry)
	}},
	{"keeps a revoked session ended if a snapshot from before the revocation is backfilled", func(s *suite) {
		ref := s.ref()
		s.backfill(ref, s.active(1))
		lease := s.lease(ref)
		s.apply(s.sessionRevocation(ref))
		if s.tryBackfill(lease, ref, s.active(1)) {
			s.Error("a lease from before the revocation was accepted")
		}
		s.wantEnded(ref)
	}},
	{"marks a revoked token, and deletes the entry of the token's session", func(s *suite) {
		ref := s.ref()
		sibling := session.Ref{Subject: ref.Subject, SessionID: ref.SessionID, TokenID: issuer.NewID()}
		other := s.ref()
		s.backfill(ref, s.active(1))
		s.backfill(other, s.active(1))
		s.apply(s.tokenRevocation(ref))
		s.wantTokenRevoked(ref, true)
		s.wantTokenRevoked(sibling, false)
		s.wantNoEntry(sibling)
		s.wantEntry(other, s.active(1).Entry)
		s.wantGeneration(1)

		snapshot := s.active(1)
		snapshot.Entry.RevokedTokens = []string{ref.TokenID}
		s.backfill(ref, snapshot)
		s.wantTokenRevoked(ref, true)
		s.wantEntry(sibling, snapshot.Entry)
	}},
	{"raises the subject's generation, which revokes all older entries", func(s *suite) {
		refs := []session.Ref{s.ref(), s.ref(), s.ref()}
		for _, ref := range refs {
			s.backfill(ref, s.active(1))
		}
		s.apply(s.subjectRevocation(2, ""))
		for _, ref := range refs {
			if v := s.look(ref); !v.HasGeneration || v.Generation != 2 || !v.HasEntry || v.Entry.Generation != 1 {
				s.Errorf("Look = %+v, want an entry of generation 1 under generation 2", v)
			}
		}
	}},
	{"if one session is kept while all others are revoked, only the entry of the kept session is deleted", func(s *suite) {
		kept, other := s.ref(), s.ref()
		s.backfill(kept, s.active(1))
		s.backfill(other, s.active(1))
		s.apply(s.subjectRevocation(2, kept.SessionID))
		s.wantNoEntry(kept)
		s.wantEntry(other, s.active(1).Entry)
		s.wantGeneration(2)
		s.backfill(kept, s.active(2))
		s.wantEntry(kept, s.active(2).Entry)
	}},
	{"does not lower the generation if an older revocation is applied later", func(s *suite) {
		s.backfill(s.ref(), s.active(9))
		s.apply(s.subjectRevocation(10, "")) // the text "10" would sort before "9"
		s.apply(s.subjectRevocation(3, ""))
		s.wantGeneration(10)
	}},
	// If the store lost the subject's generation and an older revocation created it again, the
	// generation would be too low. Sessions that a newer revocation revoked would become active
	// again.
	{"does not create a missing generation", func(s *suite) {
		s.apply(s.subjectRevocation(2, ""))
		s.wantNothing(s.ref())
		s.apply(s.subjectRevocation(2, s.ref().SessionID))
		s.wantNothing(s.ref())
	}},
	{"does not make the generation expire earlier", func(s *suite) {
		s.backfill(s.ref(), s.active(1))
		for i, until := range []time.Time{time.Now().Add(-time.Second - issuer.Margin), time.Unix(0, 0), {}} {
			r := s.subjectRevocation(int64(i)+2, "")
			r.Until = until
			s.apply(r)
			s.wantGeneration(int64(i) + 2)
		}
	}},
	{"has the same result if each revocation is applied several times", func(s *suite) {
		one, two, three := s.ref(), s.ref(), s.ref()
		s.backfill(one, s.active(1))
		s.backfill(two, s.active(1))
		s.backfill(three, s.active(1))
		revocations := []issuer.Revocation{s.sessionRevocation(one), s.tokenRevocation(two), s.subjectRevocation(2, three.SessionID)}
		for range 2 {
			for _, r := range slices.Concat(revocations, revocations) {
				s.apply(r)
			}
			slices.Reverse(revocations)
		}
		s.wantEnded(one)
		s.wantTokenRevoked(two, true)
		s.wantNoEntry(three)
		s.wantGeneration(2)
	}},
	{"accepts a revocation whose tokens have expired, and stores nothing", func(s *suite) {
		for _, until := range []time.Time{time.Now().Add(-time.Second - issuer.Margin), time.Unix(0, 0), {}} {
			ref := s.ref()
			for _, r := range []issuer.Revocation{s.sessionRevocation(ref), s.tokenRevocation(ref), s.subjectRevocation(2, ref.SessionID)} {
				r.Until = until
				s.apply(r)
			}
			s.wantNothing(ref)
		}
	}},
	{"refuses a revocation that revokes nothing", func(s *suite) {
		if _, err := s.Apply(s.ctx, issuer.Revocation{Subject: s.subject, Until: s.until}); err == nil {
			s.Error("Apply accepted a revocation that revokes nothing")
		}
	}},
}
