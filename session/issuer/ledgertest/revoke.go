package ledgertest

import (
	"slices"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

var revokeTests = []test{
	{"ends one session and records a revocation", func(s *suite) {
		list := s.starts(2)
		at := s.now.Add(time.Minute)
		got, revocation, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(at, issuer.ReasonRevoked))
		s.ok(err)
		want := list[0]
		want.EndedAt, want.EndReason, want.EndedBy = at, issuer.ReasonRevoked, issuer.ByUser
		s.same("returned", got, want)
		s.same("found", s.find(want.ID, at).Session, want)
		s.same("the other session", s.find(list[1].ID, at).Session, list[1])
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, Reason: issuer.ReasonRevoked, SessionID: want.ID, Until: want.AccessExpiresAt})
	}},
	{"records another revocation of an ended session and does not change how it ended", func(s *suite) {
		started := s.start(s.now)
		first, _, err := s.Revoke(s.ctx, s.subject, started.ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		again, revocation, err := s.Revoke(s.ctx, s.subject, started.ID, end(s.now.Add(time.Hour), issuer.ReasonRevoked))
		s.ok(err)
		s.same("the second time", again, first)
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, Reason: issuer.ReasonRevoked, SessionID: started.ID, Until: started.AccessExpiresAt})
	}},
	{"records a revocation of an expired session, which keeps the status expired", func(s *suite) {
		started := s.start(s.now)
		got, revocation, err := s.Revoke(s.ctx, s.subject, started.ID, end(started.ExpiresAt, issuer.ReasonRevoked))
		s.ok(err)
		s.same("returned", got, started)
		if status := got.StatusAt(started.ExpiresAt); status != issuer.StatusExpired {
			s.Errorf("status %q, want expired", status)
		}
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, Reason: issuer.ReasonRevoked, SessionID: started.ID, Until: started.AccessExpiresAt})
	}},
	{"returns ErrNotFound for an unknown id and for another subject's session", func(s *suite) {
		foreign, _, err := s.Start(s.ctx, loginOf(s.otherUser(), s.now))
		s.ok(err)
		for _, id := range []string{foreign.ID, issuer.NewTimedID(s.now)} {
			_, _, err := s.Revoke(s.ctx, s.subject, id, end(s.now, issuer.ReasonRevoked))
			s.want(err, issuer.ErrNotFound)
		}
		_, _, err = s.Revoke(s.ctx, "nobody", foreign.ID, end(s.now, issuer.ReasonRevoked))
		s.want(err, issuer.ErrNotFound)
		record, err := s.Find(s.ctx, foreign.Subject, foreign.ID, s.now)
		s.ok(err)
		s.same("the other user's", record.Session, foreign)
	}},
	{"records a revocation that lasts until the newest access token expires", func(s *suite) {
		started := s.start(s.now)
		refreshed, err := s.refresh(started.ID, s.now.Add(time.Hour))
		s.ok(err)
		_, revocation, err := s.Revoke(s.ctx, s.subject, started.ID, end(s.now.Add(2*time.Hour), issuer.ReasonLogout))
		s.ok(err)
		if revocation.Until != refreshed.AccessExpiresAt {
			s.Errorf("the revocation lasts until %v, want %v", revocation.Until, refreshed.AccessExpiresAt)
		}
	}},
}

// recorded checks that a returned revocation has an id and the wanted other fields, and that the
// ledger has recorded it.
func (s *suite) recorded(got, want issuer.Revocation) {
	s.Helper()
	if got.ID == 0 || got.RecordedAt.IsZero() {
		s.Error("the revocation has no id or no time")
	}
	want.ID, want.RecordedAt = got.ID, got.RecordedAt
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
	{"ends all active sessions, returns them, and raises the generation", func(s *suite) {
		list := s.starts(3)
		foreign, _, err := s.Start(s.ctx, loginOf(s.otherUser(), s.now))
		s.ok(err)
		at := s.now.Add(time.Minute)
		ended, revocation, err := s.RevokeAll(s.ctx, s.subject, "", end(at, issuer.ReasonRevokedAll))
		s.ok(err)
		s.sameIDs("ended", ids(ended.Newest), newestFirst(list))
		want := list[2]
		want.EndedAt, want.EndReason, want.EndedBy = at, issuer.ReasonRevokedAll, issuer.ByUser
		s.same("the newest", ended.Newest[0], want)
		s.same("the newest, found", s.find(want.ID, at).Session, want)
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, Reason: issuer.ReasonRevokedAll, Generation: list[0].Generation + 1, Until: list[2].AccessExpiresAt})
		if got := s.find(list[0].ID, at).SubjectGeneration; got != revocation.Generation {
			s.Errorf("the subject has generation %d, want %d", got, revocation.Generation)
		}
		record, err := s.Find(s.ctx, foreign.Subject, foreign.ID, at)
		s.ok(err)
		s.same("the other user's", record.Session, foreign)
	}},
	{"keeps one session active by giving it the new generation", func(s *suite) {
		list := s.starts(3)
		ended, revocation, err := s.RevokeAll(s.ctx, s.subject, list[1].ID, end(s.now, issuer.ReasonRevokedOthers))
		s.ok(err)
		s.sameIDs("ended", ids(ended.Newest), []string{list[2].ID, list[0].ID})
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, Reason: issuer.ReasonRevokedOthers, Generation: list[0].Generation + 1, Keep: list[1].ID, Until: list[2].AccessExpiresAt})
		kept := list[1]
		kept.Generation = revocation.Generation
		record := s.find(kept.ID, s.now)
		s.same("kept", record.Session, kept)
		if record.SubjectGeneration != kept.Generation {
			s.Errorf("the subject has generation %d", record.SubjectGeneration)
		}
		if _, err := s.refresh(kept.ID, s.now); err != nil {
			s.Errorf("the kept session cannot be refreshed: %v", err)
		}
	}},
	{"does not revive the session to keep if that session has ended or expired", func(s *suite) {
		list := s.starts(3)
		_, _, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		foreign, _, err := s.Start(s.ctx, loginOf(s.otherUser(), s.now))
		s.ok(err)
		at := list[1].ExpiresAt // at this time, only the third session is active
		for _, keep := range []string{list[0].ID, list[1].ID, foreign.ID, "unknown"} {
			before := s.find(list[0].ID, at)
			_, revocation, err := s.RevokeAll(s.ctx, s.subject, keep, end(at, issuer.ReasonRevokedOthers))
			s.ok(err)
			if revocation.Keep != "" || revocation.Generation != before.SubjectGeneration+1 {
				s.Errorf("RevokeAll that keeps %q returned %+v, want an empty Keep and the next generation", keep, revocation)
			}
			s.same("the session that had ended", s.find(list[0].ID, at).Session, before.Session)
		}
		s.same("the session that had expired", s.find(list[1].ID, at).Session, list[1])
		s.sameIDs("still active", ids(s.active(at, issuer.Page{})), nil)
	}},
	{"does not change sessions that have ended or expired", func(s *suite) {
		list := s.starts(3)
		loggedOut, _, err := s.Revoke(s.ctx, s.subject, list[1].ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		at := list[0].ExpiresAt
		ended, _, err := s.RevokeAll(s.ctx, s.subject, "", end(at, issuer.ReasonRevokedAll))
		s.ok(err)
		s.sameIDs("ended", ids(ended.Newest), []string{list[2].ID})
		s.same("logged out", s.find(list[1].ID, at).Session, loggedOut)
		if expired := s.find(list[0].ID, at); expired.StatusAt(at) != issuer.StatusExpired {
			s.Errorf("the expired session has status %q", expired.StatusAt(at))
		}
	}},
	{"leaves the first ending of a session in the history, and does not revive the session", func(s *suite) {
		list := s.starts(3)
		first := s.now.Add(time.Minute)
		_, _, err := s.RevokeAll(s.ctx, s.subject, list[2].ID, end(first, issuer.ReasonRevokedOthers))
		s.ok(err)
		then := first.Add(time.Minute)
		ended, revocation, err := s.RevokeAll(s.ctx, s.subject, list[0].ID, end(then, issuer.ReasonRevokedAll))
		s.ok(err)
		s.sameIDs("ended", ids(ended.Newest), []string{list[2].ID})
		if ended.Count != 1 || revocation.Keep != "" {
			s.Errorf("RevokeAll that keeps an ended session ended %d and returned %+v", ended.Count, revocation)
		}
		_, _, err = s.Revoke(s.ctx, s.subject, list[1].ID, end(then, issuer.ReasonRevoked))
		s.ok(err)
		_, err = s.refresh(list[1].ID, then)
		s.want(err, errEnded)
		s.sameIDs("active", ids(s.active(then, issuer.Page{})), nil)
		history, err := s.History(s.ctx, s.subject, issuer.Page{})
		s.ok(err)
		for i, want := range []issuer.Ending{end(then, issuer.ReasonRevokedAll), end(first, issuer.ReasonRevokedOthers), end(first, issuer.ReasonRevokedOthers)} {
			if got := history[i].Ending(then); got != want {
				s.Errorf("entry %d of the history ended %+v, want %+v", i, got, want)
			}
			s.same("found as in the history", s.find(history[i].ID, then).Session, history[i].Session)
		}
	}},
	{"an expired session that is revoked keeps its expiry, although it survived an earlier RevokeAll", func(s *suite) {
		list := s.starts(2)
		_, _, err := s.RevokeAll(s.ctx, s.subject, list[1].ID, end(s.now, issuer.ReasonRevokedOthers))
		s.ok(err)
		late := list[1].ExpiresAt
		_, _, err = s.Revoke(s.ctx, s.subject, list[1].ID, end(late, issuer.ReasonRevoked))
		s.ok(err)
		_, _, err = s.RevokeAll(s.ctx, s.subject, "", end(late, issuer.ReasonRevokedAll))
		s.ok(err)
		if got := s.find(list[1].ID, late); got.StatusAt(late) != issuer.StatusExpired {
			s.Errorf("the session has status %q: %+v", got.StatusAt(late), got)
		}
	}},
	{"the sessions that it ended do not count for the session limit", func(s *suite) {
		s.starts(3)
		_, _, err := s.RevokeAll(s.ctx, s.subject, "", end(s.now, issuer.ReasonRevokedAll))
		s.ok(err)
		login := s.login(s.now)
		login.MaxSessions = 1
		_, displaced, err := s.Start(s.ctx, login)
		s.ok(err)
		if len(displaced) != 0 {
			s.Errorf("the login displaced %+v", displaced)
		}
	}},
	{"raises the generation of a user without sessions", func(s *suite) {
		ended, revocation, err := s.RevokeAll(s.ctx, s.subject, "", end(s.now, issuer.ReasonRevokedAll))
		s.ok(err)
		if ended.Count != 0 || revocation.Until.IsZero() {
			s.Errorf("RevokeAll ended %v and returned %+v, want no sessions and a time Until", ended, revocation)
		}
		if started := s.start(s.now); started.Generation != revocation.Generation {
			s.Errorf("a new session has generation %d after raising it to %d", started.Generation, revocation.Generation)
		}
	}},
	{"returns ErrSubjectGone for an unknown and for a deleted user", func(s *suite) {
		s.ok(s.Delete(s.ctx, s.subject, s.now))
		for _, subject := range []string{"nobody", s.subject} {
			_, _, err := s.RevokeAll(s.ctx, subject, "", end(s.now, issuer.ReasonRevokedAll))
			s.want(err, issuer.ErrSubjectGone)
		}
	}},
	{"a password change and the deletion of the user also revoke sessions, each with its own reason", func(s *suite) {
		list := s.starts(2)
		s.ok(s.SetPassword(s.ctx, s.subject, 1, list[1].ID, s.now))
		first := s.find(list[0].ID, s.now)
		if first.EndReason != issuer.ReasonPasswordChanged || first.StatusAt(s.now) != issuer.StatusRevoked {
			s.Errorf("a session after the password change: %+v", first)
		}
		kept := s.find(list[1].ID, s.now)
		if kept.StatusAt(s.now) != issuer.StatusActive || kept.Generation != kept.SubjectGeneration || kept.Generation == first.Generation {
			s.Errorf("the kept session after the password change: %+v", kept)
		}
		s.ok(s.Delete(s.ctx, s.subject, s.now))
		gone := s.find(list[1].ID, s.now)
		if gone.EndReason != issuer.ReasonAccountDeleted || gone.Generation >= gone.SubjectGeneration || gone.Username != "" {
			s.Errorf("the kept session after the deletion: %+v", gone)
		}
		due := s.due(s.now)
		if len(due) != 2 || due[0].Keep != list[1].ID || due[1].Generation != gone.SubjectGeneration {
			s.Errorf("recorded revocations: %+v", due)
		}
	}},
}

var revokeTokenTests = []test{
	{"revokes one token and leaves its session active", func(s *suite) {
		started := s.start(s.now)
		expiry := s.now.Add(time.Minute)
		revocation, err := s.RevokeToken(s.ctx, s.subject, started.ID, started.TokenID, expiry, s.now)
		s.ok(err)
		s.recorded(revocation, issuer.Revocation{Subject: s.subject, SessionID: started.ID, TokenID: started.TokenID, Until: expiry})
		record := s.find(started.ID, s.now)
		s.same("the session", record.Session, started)
		if !slices.Equal(record.RevokedTokens, []string{started.TokenID}) {
			s.Errorf("the revoked tokens are %q, want only %q", record.RevokedTokens, started.TokenID)
		}
	}},
	{"returns a token that was revoked twice only once in RevokedTokens", func(s *suite) {
		started := s.start(s.now)
		for range 2 {
			_, err := s.RevokeToken(s.ctx, s.subject, started.ID, "jti", s.now.Add(time.Minute), s.now)
			s.ok(err)
		}
		if got := s.find(started.ID, s.now).RevokedTokens; !slices.Equal(got, []string{"jti"}) {
			s.Errorf("the revoked tokens are %q, want only \"jti\"", got)
		}
	}},
	{"returns ErrNotFound for an unknown id and for another subject's session", func(s *suite) {
		foreign, _, err := s.Start(s.ctx, loginOf(s.otherUser(), s.now))
		s.ok(err)
		for _, id := range []string{foreign.ID, "unknown"} {
			_, err := s.RevokeToken(s.ctx, s.subject, id, "jti", s.now.Add(time.Minute), s.now)
			s.want(err, issuer.ErrNotFound)
		}
	}},
}
