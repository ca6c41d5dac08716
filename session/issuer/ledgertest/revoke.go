package ledgertest

import (
	"slices"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

var revokeTests = []test{
	{"ends one session and records that the store has to learn of it", func(s *suite) {
		list := s.starts(2)
		at := s.now.Add(time.Minute)
		got, revocation, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(at, issuer.ReasonRevoked))
		s.ok(err)
		want := list[0]
		want.EndedAt, want.EndReason, want.EndedBy = at, issuer.ReasonRevoked, issuer.ByUser
		s.same("returned", got, want)
		s.same("found", s.find(want.ID, at).Session, want)
		s.same("the other", s.find(list[1].ID, at).Session, list[1])
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, SessionID: want.ID, Until: want.AccessExpiresAt})
	}},
	{"changes nothing in the history of a session that was ended, and revokes it again", func(s *suite) {
		started := s.start(s.now)
		first, _, err := s.Revoke(s.ctx, s.subject, started.ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		again, revocation, err := s.Revoke(s.ctx, s.subject, started.ID, end(s.now.Add(time.Hour), issuer.ReasonRevoked))
		s.ok(err)
		s.same("the second time", again, first)
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, SessionID: started.ID, Until: started.AccessExpiresAt})
	}},
	{"leaves an expired session expired, and revokes it all the same", func(s *suite) {
		started := s.start(s.now)
		got, revocation, err := s.Revoke(s.ctx, s.subject, started.ID, end(started.ExpiresAt, issuer.ReasonRevoked))
		s.ok(err)
		s.same("returned", got, started)
		if status := got.StatusAt(started.ExpiresAt); status != issuer.StatusExpired {
			s.Errorf("it reads %q", status)
		}
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, SessionID: started.ID, Until: started.AccessExpiresAt})
	}},
	{"finds nothing under an unknown id, and leaves another subject's session alone", func(s *suite) {
		stranger, _, err := s.Start(s.ctx, loginOf(s.stranger(), s.now))
		s.ok(err)
		for _, id := range []string{stranger.ID, issuer.NewTimedID(s.now)} {
			_, _, err := s.Revoke(s.ctx, s.subject, id, end(s.now, issuer.ReasonRevoked))
			s.want(err, issuer.ErrNotFound)
		}
		_, _, err = s.Revoke(s.ctx, "nobody", stranger.ID, end(s.now, issuer.ReasonRevoked))
		s.want(err, issuer.ErrNotFound)
		record, err := s.Find(s.ctx, stranger.Subject, stranger.ID, s.now)
		s.ok(err)
		s.same("the stranger's", record.Session, stranger)
	}},
	{"reaches until the newest token, which a refresh moved", func(s *suite) {
		started := s.start(s.now)
		renewed, err := s.renew(started.ID, s.now.Add(time.Hour))
		s.ok(err)
		_, revocation, err := s.Revoke(s.ctx, s.subject, started.ID, end(s.now.Add(2*time.Hour), issuer.ReasonLogout))
		s.ok(err)
		if revocation.Until != renewed.AccessExpiresAt {
			s.Errorf("until %v, want %v", revocation.Until, renewed.AccessExpiresAt)
		}
	}},
}

// recorded checks a revocation that was returned and that it is recorded.
func (s *suite) recorded(got, want issuer.Revocation) {
	s.Helper()
	if got.ID == 0 {
		s.Error("the revocation has no number")
	}
	want.ID = got.ID
	if got != want {
		s.Errorf("revocation:\n got %+v\nwant %+v", got, want)
	}
	stored, err := s.Revocation(s.ctx, got.ID)
	s.ok(err)
	if stored != want {
		s.Errorf("recorded revocation:\n got %+v\nwant %+v", stored, want)
	}
}

var revokeAllTests = []test{
	{"ends all active sessions, raises the generation, and returns what it ended", func(s *suite) {
		list := s.starts(3)
		stranger, _, err := s.Start(s.ctx, loginOf(s.stranger(), s.now))
		s.ok(err)
		at := s.now.Add(time.Minute)
		ended, revocation, err := s.RevokeAll(s.ctx, s.subject, "", end(at, issuer.ReasonRevokedAll))
		s.ok(err)
		s.sameIDs("ended", ids(ended), newestFirst(list))
		want := list[2]
		want.EndedAt, want.EndReason, want.EndedBy = at, issuer.ReasonRevokedAll, issuer.ByUser
		s.same("the newest", ended[0], want)
		s.same("the newest, found", s.find(want.ID, at).Session, want)
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, Generation: list[0].Generation + 1, Until: list[2].AccessExpiresAt})
		if got := s.find(list[0].ID, at).SubjectGeneration; got != revocation.Generation {
			s.Errorf("the subject has generation %d, want %d", got, revocation.Generation)
		}
		record, err := s.Find(s.ctx, stranger.Subject, stranger.ID, at)
		s.ok(err)
		s.same("the stranger's", record.Session, stranger)
	}},
	{"keeps one, which moves to the new generation", func(s *suite) {
		list := s.starts(3)
		ended, revocation, err := s.RevokeAll(s.ctx, s.subject, list[1].ID, end(s.now, issuer.ReasonRevokedOthers))
		s.ok(err)
		s.sameIDs("ended", ids(ended), []string{list[2].ID, list[0].ID})
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, Generation: list[0].Generation + 1, Keep: list[1].ID, Until: list[2].AccessExpiresAt})
		kept := list[1]
		kept.Generation = revocation.Generation
		record := s.find(kept.ID, s.now)
		s.same("kept", record.Session, kept)
		if record.SubjectGeneration != kept.Generation {
			s.Errorf("the subject has generation %d", record.SubjectGeneration)
		}
		if _, err := s.renew(kept.ID, s.now); err != nil {
			s.Errorf("the kept session cannot be refreshed: %v", err)
		}
	}},
	{"revives nothing that was to be kept but is not active", func(s *suite) {
		list := s.starts(3)
		_, _, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		stranger, _, err := s.Start(s.ctx, loginOf(s.stranger(), s.now))
		s.ok(err)
		at := list[1].ExpiresAt // the third lives a second longer
		for _, keep := range []string{list[0].ID, list[1].ID, stranger.ID, "unknown"} {
			before := s.find(list[0].ID, at)
			_, revocation, err := s.RevokeAll(s.ctx, s.subject, keep, end(at, issuer.ReasonRevokedOthers))
			s.ok(err)
			if revocation.Keep != "" || revocation.Generation != before.SubjectGeneration+1 {
				s.Errorf("keep %q: %+v", keep, revocation)
			}
			s.same("ended before", s.find(list[0].ID, at).Session, before.Session)
		}
		s.same("expired before", s.find(list[1].ID, at).Session, list[1])
		s.sameIDs("still active", ids(s.active(at, issuer.Page{})), nil)
	}},
	{"does not touch what had ended or expired by itself", func(s *suite) {
		list := s.starts(3)
		loggedOut, _, err := s.Revoke(s.ctx, s.subject, list[1].ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		at := list[0].ExpiresAt
		ended, _, err := s.RevokeAll(s.ctx, s.subject, "", end(at, issuer.ReasonRevokedAll))
		s.ok(err)
		s.sameIDs("ended", ids(ended), []string{list[2].ID})
		s.same("logged out", s.find(list[1].ID, at).Session, loggedOut)
		if expired := s.find(list[0].ID, at); expired.StatusAt(at) != issuer.StatusExpired {
			s.Errorf("the expired one reads %q", expired.StatusAt(at))
		}
	}},
	{"with nothing to end still raises the generation", func(s *suite) {
		ended, revocation, err := s.RevokeAll(s.ctx, s.subject, "", end(s.now, issuer.ReasonRevokedAll))
		s.ok(err)
		if len(ended) != 0 || revocation.Until.IsZero() {
			s.Errorf("ended %v, %+v", ended, revocation)
		}
		if started := s.start(s.now); started.Generation != revocation.Generation {
			s.Errorf("generation %d after %d was raised", started.Generation, revocation.Generation)
		}
	}},
	{"knows no user that never was or is gone", func(s *suite) {
		s.ok(s.Delete(s.ctx, s.subject, s.now))
		for _, subject := range []string{"nobody", s.subject} {
			_, _, err := s.RevokeAll(s.ctx, subject, "", end(s.now, issuer.ReasonRevokedAll))
			s.want(err, issuer.ErrSubjectGone)
		}
	}},
	{"a change of password and a deletion do the same, each with its reason", func(s *suite) {
		list := s.starts(2)
		s.ok(s.SetPassword(s.ctx, s.subject, 1, list[1].ID, s.now))
		first := s.find(list[0].ID, s.now)
		if first.EndReason != issuer.ReasonPasswordChanged || first.StatusAt(s.now) != issuer.StatusRevoked {
			s.Errorf("after the change: %+v", first)
		}
		kept := s.find(list[1].ID, s.now)
		if kept.StatusAt(s.now) != issuer.StatusActive || kept.Generation != kept.SubjectGeneration || kept.Generation == first.Generation {
			s.Errorf("kept: %+v", kept)
		}
		s.ok(s.Delete(s.ctx, s.subject, s.now))
		gone := s.find(list[1].ID, s.now)
		if gone.EndReason != issuer.ReasonAccountDeleted || gone.Generation >= gone.SubjectGeneration || gone.Username != "" {
			s.Errorf("after the deletion: %+v", gone)
		}
		due := s.due(s.now)
		if len(due) != 2 || due[0].Keep != list[1].ID || due[1].Generation != gone.SubjectGeneration {
			s.Errorf("recorded: %+v", due)
		}
	}},
}

var revokeTokenTests = []test{
	{"revokes one token; its session goes on", func(s *suite) {
		started := s.start(s.now)
		expiry := s.now.Add(time.Minute)
		revocation, err := s.RevokeToken(s.ctx, s.subject, started.ID, started.TokenID, expiry, s.now)
		s.ok(err)
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, SessionID: started.ID, TokenID: started.TokenID, Until: expiry})
		record := s.find(started.ID, s.now)
		s.same("the session", record.Session, started)
		if !slices.Equal(record.RevokedTokens, []string{started.TokenID}) {
			s.Errorf("revoked %q", record.RevokedTokens)
		}
	}},
	{"can be said twice", func(s *suite) {
		started := s.start(s.now)
		for range 2 {
			_, err := s.RevokeToken(s.ctx, s.subject, started.ID, "jti", s.now.Add(time.Minute), s.now)
			s.ok(err)
		}
		if got := s.find(started.ID, s.now).RevokedTokens; !slices.Equal(got, []string{"jti"}) {
			s.Errorf("revoked %q", got)
		}
	}},
	{"finds nothing under an unknown id, nor another subject's session", func(s *suite) {
		stranger, _, err := s.Start(s.ctx, loginOf(s.stranger(), s.now))
		s.ok(err)
		for _, id := range []string{stranger.ID, "unknown"} {
			_, err := s.RevokeToken(s.ctx, s.subject, id, "jti", s.now.Add(time.Minute), s.now)
			s.want(err, issuer.ErrNotFound)
		}
	}},
}
