package ledgertest

import (
	"errors"
	"slices"
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

var rotateTests = []test{
	{"gives the session to the callback decide and stores the rotation that decide returns", func(s *suite) {
		want := s.start(s.now)
		at := s.now.Add(time.Minute)
		var first issuer.Rotatable
		var decided issuer.Rotation
		got, revocation, err := s.Rotate(s.ctx, family(want.ID), func(r issuer.Rotatable) (issuer.Rotation, error) {
			first, decided = r, rotation(r, at)
			return decided, nil
		})
		s.ok(err)
		s.same("passed", first.Session, want)
		if first.Current != hashOf(want.ID+" 0") || first.Previous != (issuer.Hash{}) || len(first.Sealed) != 0 || !first.RotatedAt.IsZero() {
			s.Errorf("the refresh tokens before the first rotation: %+v", first)
		}
		if revocation != nil {
			s.Errorf("Rotate returned the revocation %+v of an active session", revocation)
		}
		want.TokenID, want.LastSeenAt, want.AccessExpiresAt, want.ExpiresAt = decided.TokenID, at, decided.AccessExpiresAt, decided.ExpiresAt
		s.same("returned", got, want)
		s.same("found", s.find(want.ID, at).Session, want)

		_, _, err = s.Rotate(s.ctx, family(want.ID), func(r issuer.Rotatable) (issuer.Rotation, error) {
			s.same("passed the second time", r.Session, want)
			if r.Current != decided.Current || r.Previous != decided.Previous || string(r.Sealed) != "sealed" || r.RotatedAt != at {
				s.Errorf("the ledger stored %+v, want %+v", r, decided)
			}
			return issuer.Rotation{}, errEnded
		})
		s.want(err, errEnded)
	}},
	{"returns ErrNotFound for an unknown refresh family", func(s *suite) {
		s.start(s.now)
		_, _, err := s.Rotate(s.ctx, hashOf("unknown"), func(issuer.Rotatable) (issuer.Rotation, error) {
			s.Error("decide was called without a session")
			return issuer.Rotation{}, nil
		})
		s.want(err, issuer.ErrNotFound)
	}},
	{"returns an error of the callback decide unchanged and stores nothing", func(s *suite) {
		want := s.start(s.now)
		for _, own := range []error{errors.New("own"), session.ErrUnavailable, session.ErrInvalidToken} {
			_, revocation, err := s.Rotate(s.ctx, family(want.ID), func(r issuer.Rotatable) (issuer.Rotation, error) {
				return rotation(r, s.now.Add(time.Hour)), own
			})
			s.want(err, own)
			if revocation != nil {
				s.Errorf("Rotate returned the revocation %+v", revocation)
			}
		}
		s.same("afterwards", s.find(want.ID, s.now).Session, want)
		if due := s.due(s.now.Add(time.Hour)); len(due) != 0 {
			s.Errorf("Rotate recorded the revocations %+v", due)
		}
	}},
	{"never makes AccessExpiresAt earlier", func(s *suite) {
		started := s.start(s.now)
		got, _, err := s.Rotate(s.ctx, family(started.ID), func(r issuer.Rotatable) (issuer.Rotation, error) {
			decided := rotation(r, s.now)
			decided.AccessExpiresAt = s.now.Add(time.Minute)
			return decided, nil
		})
		s.ok(err)
		if got.AccessExpiresAt != started.AccessExpiresAt || s.find(started.ID, s.now).AccessExpiresAt != started.AccessExpiresAt {
			s.Errorf("access expires at %v, want %v", got.AccessExpiresAt, started.AccessExpiresAt)
		}
	}},
	{"ends the session if the rotation has an End, records a revocation and mails the user once", func(s *suite) {
		started := s.start(s.now)
		at := s.now.Add(time.Minute)
		steal := func(issuer.Rotatable) (issuer.Rotation, error) {
			return issuer.Rotation{End: &issuer.Ending{At: at, Reason: issuer.ReasonTokenTheft, By: issuer.BySystem}, Notify: "token_theft"}, nil
		}
		ended, revocation, err := s.Rotate(s.ctx, family(started.ID), steal)
		s.ok(err)
		want := started
		want.EndedAt, want.EndReason, want.EndedBy = at, issuer.ReasonTokenTheft, issuer.BySystem
		s.same("returned", ended, want)
		s.same("found", s.find(started.ID, at).Session, want)
		if revocation == nil || revocation.SessionID != started.ID || revocation.Subject != s.subject || revocation.Until != started.AccessExpiresAt {
			s.Errorf("revocation %+v", revocation)
		}
		// The thief uses the stolen token again. Rotate must record another revocation, but must
		// not change the time and reason of the session's end, and must not send a second mail.
		at = at.Add(time.Minute)
		again, revocation, err := s.Rotate(s.ctx, family(started.ID), steal)
		s.ok(err)
		s.same("the second time", again, want)
		if revocation == nil || revocation.SessionID != started.ID {
			s.Errorf("the second Rotate returned the revocation %+v", revocation)
		}
		mails, err := s.Mails(s.ctx, s.subject)
		s.ok(err)
		if !slices.Equal(mails, []string{"token_theft"}) {
			s.Errorf("the user got the mails %q, want one of the kind token_theft", mails)
		}
	}},
	{"sends no mail if the rotation has an End and an empty Notify", func(s *suite) {
		started := s.start(s.now)
		e := end(s.now, issuer.ReasonLogout)
		_, _, err := s.Rotate(s.ctx, family(started.ID), func(issuer.Rotatable) (issuer.Rotation, error) {
			return issuer.Rotation{End: &e}, nil
		})
		s.ok(err)
		mails, err := s.Mails(s.ctx, s.subject)
		s.ok(err)
		if len(mails) != 0 {
			s.Errorf("the user got the mails %q, want none", mails)
		}
	}},
	{"also gives an ended or expired session to the callback decide", func(s *suite) {
		list := s.starts(2)
		_, _, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		_, err = s.refresh(list[0].ID, s.now)
		s.want(err, errEnded)
		_, err = s.refresh(list[1].ID, list[1].ExpiresAt)
		s.want(err, errEnded)
	}},
	{"does not revive a session that expired before RevokeAll, even if a replica's clock is behind", func(s *suite) {
		started := s.start(s.now)
		_, _, err := s.RevokeAll(s.ctx, s.subject, "", end(started.ExpiresAt, issuer.ReasonRevokedAll))
		s.ok(err)
		behind := started.ExpiresAt.Add(-time.Second)
		_, err = s.refresh(started.ID, behind)
		s.want(err, issuer.ErrNotFound)
		if record := s.find(started.ID, behind); record.Generation >= record.SubjectGeneration {
			s.Errorf("the session has generation %d, and its subject has %d", record.Generation, record.SubjectGeneration)
		}
	}},
	{"does not revive a session that expired before Revoke, even if a replica's clock is behind", func(s *suite) {
		list := s.starts(2)
		revoked := list[1].ExpiresAt
		_, _, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(revoked, issuer.ReasonRevoked))
		s.ok(err)
		_, _, err = s.Rotate(s.ctx, family(list[1].ID), func(issuer.Rotatable) (issuer.Rotation, error) {
			logout := end(revoked, issuer.ReasonLogout)
			return issuer.Rotation{End: &logout}, nil
		})
		s.ok(err)
		for _, expired := range list {
			behind := expired.ExpiresAt.Add(-time.Second)
			_, err = s.refresh(expired.ID, behind)
			s.want(err, issuer.ErrNotFound)
			record := s.find(expired.ID, revoked)
			if status := record.StatusAt(revoked); status != issuer.StatusExpired {
				s.Errorf("the session has the status %q, want expired", status)
			}
		}
	}},
}
