package ledgertest

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

var startTests = []test{
	{"stores a session with the user's name and generation", func(s *suite) {
		start := s.login(s.now)
		got, _, err := s.Start(s.ctx, start)
		s.ok(err)
		want := issuer.Session{
			ID: start.ID, Subject: s.subject, Username: s.username, TokenID: start.TokenID, Client: start.Client, AMR: "pwd",
			Generation: got.Generation, CreatedAt: s.now, LastSeenAt: s.now, AuthTime: s.now,
			AccessExpiresAt: start.AccessExpiresAt, ExpiresAt: start.ExpiresAt, MaxExpiresAt: start.MaxExpiresAt,
		}
		s.same("returned", got, want)
		record := s.find(start.ID, s.now)
		s.same("found", record.Session, want)
		if record.SubjectGeneration != got.Generation {
			s.Errorf("the session has generation %d, and its subject has %d", got.Generation, record.SubjectGeneration)
		}
	}},
	{"refuses an unknown user", func(s *suite) {
		_, _, err := s.Start(s.ctx, loginOf("nobody", s.now))
		s.want(err, issuer.ErrSubjectGone)
	}},
	{"refuses a deleted user", func(s *suite) {
		s.ok(s.Delete(s.ctx, s.subject, s.now))
		_, _, err := s.Start(s.ctx, s.login(s.now))
		s.want(err, issuer.ErrSubjectGone)
	}},
	{"refuses a login that verified an old version of the password", func(s *suite) {
		s.ok(s.SetPassword(s.ctx, s.subject, 1, "", s.now))
		_, _, err := s.Start(s.ctx, s.login(s.now))
		s.want(err, issuer.ErrCredentialChanged)
		start := s.login(s.now)
		start.CredentialVersion = 2
		_, _, err = s.Start(s.ctx, start)
		s.ok(err)
		s.sameIDs("recorded", ids(s.active(s.now, issuer.Page{})), []string{start.ID})
	}},
	{"gives a new session the generation that RevokeAll raised", func(s *suite) {
		before := s.start(s.now)
		_, revocation, err := s.RevokeAll(s.ctx, s.subject, "", end(s.now, issuer.ReasonRevokedAll))
		s.ok(err)
		after := s.start(s.now.Add(time.Second))
		if after.Generation != revocation.Generation || after.Generation <= before.Generation {
			s.Errorf("a session before RevokeAll has generation %d, RevokeAll raised it to %d, a later session has %d", before.Generation, revocation.Generation, after.Generation)
		}
	}},
	{"stores times in UTC with microseconds", func(s *suite) {
		odd := s.now.Add(789 * time.Nanosecond).In(time.FixedZone("", 3600))
		got := s.start(odd)
		for _, at := range []time.Time{got.CreatedAt, s.find(got.ID, s.now).CreatedAt} {
			if at != s.now {
				s.Errorf("the session was created at %v, want %v", at, s.now)
			}
		}
	}},
}

var findTests = []test{
	{"returns ErrNotFound for an unknown id and for another subject's session", func(s *suite) {
		mine := s.start(s.now)
		_, err := s.Find(s.ctx, s.subject, issuer.NewTimedID(s.now), s.now)
		s.want(err, issuer.ErrNotFound)
		_, err = s.Find(s.ctx, s.otherUser(), mine.ID, s.now)
		s.want(err, issuer.ErrNotFound)
	}},
	{"returns ended sessions and expired sessions", func(s *suite) {
		list := s.starts(2)
		_, _, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		long := s.now.Add(maxTTL)
		if status := s.find(list[0].ID, long); status.StatusAt(long) != issuer.StatusLoggedOut {
			s.Errorf("the ended session has status %q", status.StatusAt(long))
		}
		if status := s.find(list[1].ID, long); status.StatusAt(long) != issuer.StatusExpired {
			s.Errorf("the expired session has status %q", status.StatusAt(long))
		}
	}},
	{"returns a revoked token until no check accepts the token any more", func(s *suite) {
		one, other := s.start(s.now), s.start(s.now)
		expiry := s.now.Add(time.Minute)
		for _, token := range []string{"b-token", "a_token"} {
			_, err := s.RevokeToken(s.ctx, s.subject, one.ID, token, expiry, s.now)
			s.ok(err)
		}
		_, err := s.RevokeToken(s.ctx, s.subject, one.ID, "longer", expiry.Add(time.Hour), s.now)
		s.ok(err)
		for _, test := range []struct {
			now  time.Time
			want []string
		}{
			{s.now, []string{"a_token", "b-token", "longer"}},
			{expiry, []string{"a_token", "b-token", "longer"}},
			{expiry.Add(session.Leeway), []string{"a_token", "b-token", "longer"}}, // checks accept a token until Leeway after its expiry
			{expiry.Add(issuer.Margin), []string{"longer"}},
		} {
			got := slices.Sorted(slices.Values(s.find(one.ID, test.now).RevokedTokens))
			if !slices.Equal(got, test.want) {
				s.Errorf("at %v the revoked tokens are %q, want %q", test.now, got, test.want)
			}
		}
		if got := s.find(other.ID, s.now).RevokedTokens; len(got) != 0 {
			s.Errorf("another session has the revoked tokens %q", got)
		}
	}},
	{"returns the expiry of the subject's newest access token, in any of the subject's sessions", func(s *suite) {
		list := s.starts(3)
		foreign, _, err := s.Start(s.ctx, loginOf(s.otherUser(), s.now.Add(time.Hour)))
		s.ok(err)
		_, _, err = s.Revoke(s.ctx, s.subject, list[2].ID, end(s.now, issuer.ReasonRevoked)) // SubjectUntil must also cover the access token of a revoked session
		s.ok(err)
		record := s.find(list[0].ID, s.now)
		if record.SubjectUntil != list[2].AccessExpiresAt || !foreign.AccessExpiresAt.After(record.SubjectUntil) {
			s.Errorf("the newest token expires at %v, want %v", record.SubjectUntil, list[2].AccessExpiresAt)
		}
	}},
}

var reauthenticateTests = []test{
	{"stores the new password check and the new token, revokes the replaced token, and changes nothing else", func(s *suite) {
		want := s.start(s.now)
		at := s.now.Add(time.Minute)
		re := s.reauthentication(want.ID, at)
		got, revocation, err := s.Reauthenticate(s.ctx, re)
		s.ok(err)
		s.recorded(revocation, issuer.Revocation{
			Subject: s.subject, SessionID: want.ID, TokenID: re.ReplacedTokenID, Until: re.ReplacedExpiresAt,
		})
		if got := s.find(want.ID, at).RevokedTokens; !slices.Equal(got, []string{re.ReplacedTokenID}) {
			s.Errorf("the revoked tokens are %q, want only %q", got, re.ReplacedTokenID)
		}
		want.TokenID, want.AMR, want.AuthTime, want.LastSeenAt, want.AccessExpiresAt = re.TokenID, "pwd otp", at, at, re.AccessExpiresAt
		s.same("returned", got, want)
		s.same("found", s.find(want.ID, at).Session, want)
		if _, err := s.refresh(want.ID, at); err != nil {
			s.Errorf("the refresh token no longer works: %v", err)
		}
	}},
	{"never makes AccessExpiresAt earlier", func(s *suite) {
		started := s.start(s.now)
		re := s.reauthentication(started.ID, s.now)
		re.AccessExpiresAt = s.now.Add(time.Minute)
		got, _, err := s.Reauthenticate(s.ctx, re)
		s.ok(err)
		if got.AccessExpiresAt != started.AccessExpiresAt {
			s.Errorf("access expires at %v, want %v", got.AccessExpiresAt, started.AccessExpiresAt)
		}
	}},
	{"refuses a user whose password has changed since it was checked, and a deleted user", func(s *suite) {
		started := s.start(s.now)
		s.ok(s.SetPassword(s.ctx, s.subject, 1, started.ID, s.now))
		_, _, err := s.Reauthenticate(s.ctx, s.reauthentication(started.ID, s.now))
		s.want(err, issuer.ErrCredentialChanged)
		s.ok(s.Delete(s.ctx, s.subject, s.now))
		_, _, err = s.Reauthenticate(s.ctx, s.reauthentication(started.ID, s.now))
		s.want(err, issuer.ErrSubjectGone)
	}},
	{"returns ErrNotFound for an ended, an expired and another subject's session", func(s *suite) {
		list := s.starts(2)
		_, _, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		_, _, err = s.Reauthenticate(s.ctx, s.reauthentication(list[0].ID, s.now))
		s.want(err, issuer.ErrNotFound)
		_, _, err = s.Reauthenticate(s.ctx, s.reauthentication(list[1].ID, list[1].ExpiresAt))
		s.want(err, issuer.ErrNotFound)
		foreign, _, err := s.Start(s.ctx, loginOf(s.otherUser(), s.now))
		s.ok(err)
		_, _, err = s.Reauthenticate(s.ctx, s.reauthentication(foreign.ID, s.now))
		s.want(err, issuer.ErrNotFound)
	}},
}

func (s *suite) reauthentication(id string, at time.Time) issuer.Reauthentication {
	return issuer.Reauthentication{
		Subject: s.subject, ID: id, TokenID: issuer.NewID(), CredentialVersion: 1, AMR: "pwd otp",
		At: at, AccessExpiresAt: at.Add(2 * accessTTL), ReplacedTokenID: issuer.NewID(), ReplacedExpiresAt: at.Add(accessTTL),
	}
}

// textTests use texts that clients can send but that a database cannot store.
var textTests = []test{
	{"no method finds a session for an id that is not valid UTF-8 or contains a NUL", func(s *suite) {
		s.start(s.now)
		for _, odd := range []string{"\xff\xfe", "a\x00b"} {
			_, err := s.Find(s.ctx, s.subject, odd, s.now)
			s.want(err, issuer.ErrNotFound)
			_, err = s.Find(s.ctx, odd, odd, s.now)
			s.want(err, issuer.ErrNotFound)
			_, _, err = s.Revoke(s.ctx, s.subject, odd, end(s.now, issuer.ReasonLogout))
			s.want(err, issuer.ErrNotFound)
			_, err = s.RevokeToken(s.ctx, s.subject, odd, "jti", s.now, s.now)
			s.want(err, issuer.ErrNotFound)
			_, _, err = s.RevokeAll(s.ctx, odd, "", end(s.now, issuer.ReasonLogout))
			s.want(err, issuer.ErrSubjectGone)
			_, _, err = s.Start(s.ctx, loginOf(odd, s.now))
			s.want(err, issuer.ErrSubjectGone)
			list, err := s.Active(s.ctx, s.subject, s.now, issuer.Page{Before: odd})
			s.ok(err)
			s.sameIDs("active before "+odd, ids(list), nil)
			logins, err := s.History(s.ctx, odd, issuer.Page{})
			s.ok(err)
			if len(logins) != 0 {
				s.Errorf("History of %q returned %v", odd, logins)
			}
		}
		ended, _, err := s.RevokeAll(s.ctx, s.subject, "\xff", end(s.now, issuer.ReasonRevokedOthers))
		s.ok(err)
		if ended.Count != 1 {
			s.Errorf("RevokeAll with an impossible keep ended %d sessions, want 1", ended.Count)
		}
	}},
	{"a login succeeds even if the user agent is not valid UTF-8", func(s *suite) {
		start := s.login(s.now)
		start.Client.UserAgent = "curl\xff/8\x00"
		_, _, err := s.Start(s.ctx, start)
		s.ok(err)
		s.find(start.ID, s.now)
	}},
}

// hashOf returns the SHA-256 hash of a text.
func hashOf(text string) issuer.Hash { return sha256.Sum256([]byte(text)) }
