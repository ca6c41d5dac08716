package storetest

import (
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
)

var passwordTests = []test{
	{"Rehash replaces the password hash and changes nothing else", func(s *suite) {
		u := s.added()
		id := s.login(u.ID, 1)
		s.ok(s.Rehash(s.ctx, u.ID, u.PasswordHash, "costlier"))
		got := s.read(u.ID)
		u.PasswordHash = "costlier"
		s.same("afterwards", got, u)
		s.ended(u.ID, map[string]string{id: ""})
	}},
	{"Rehash does nothing if the stored hash is not the hash that the caller wants to replace", func(s *suite) {
		u := s.added()
		s.ok(s.Rehash(s.ctx, u.ID, "outdated", "costlier"))
		s.same("afterwards", s.read(u.ID), u)
		s.ok(s.Rehash(s.ctx, "nobody", u.PasswordHash, "costlier"))
	}},
	{"SetPassword stores the hash, raises the version, revokes other sessions and queues the given mail", func(s *suite) {
		u := s.added()
		other := s.added()
		here, there, stranger := s.login(u.ID, 1), s.login(u.ID, 1), s.login(other.ID, 1)
		at := s.now.Add(time.Minute)
		revocation, err := s.SetPassword(s.ctx, u.ID, 1, "new hash", here, at, mailTo(u, mail.KindPasswordChanged))
		s.ok(err)
		u.PasswordHash, u.PasswordVersion, u.UpdatedAt = "new hash", 2, at
		s.same("afterwards", s.read(u.ID), u)
		s.same("another user", s.read(other.ID), other)
		s.ended(u.ID, map[string]string{here: "", there: "password_changed"})
		s.ended(other.ID, map[string]string{stranger: ""})
		s.revoked(revocation, u.ID, here)
		s.queued(u.ID, mail.KindPasswordChanged)
		if _, err := s.Login(s.ctx, u.ID, 1, at); err == nil {
			s.Error("a login that verified the old password was recorded")
		}
		s.login(u.ID, 2)
	}},
	{"SetPassword returns ErrPasswordChanged if the stored password has another version", func(s *suite) {
		u := s.added()
		id := s.login(u.ID, 1)
		_, err := s.SetPassword(s.ctx, u.ID, 0, "new hash", "", s.now, mailTo(u, mail.KindPasswordChanged))
		s.want(err, identity.ErrPasswordChanged)
		s.same("afterwards", s.read(u.ID), u)
		s.ended(u.ID, map[string]string{id: ""})
		s.queued(u.ID)
	}},
	{"SetPassword succeeds for only one of many concurrent calls", func(s *suite) {
		u := s.added()
		s.once(20, identity.ErrPasswordChanged, func() error {
			_, err := s.SetPassword(s.ctx, u.ID, 1, "new hash", "", s.now, mailTo(u, mail.KindPasswordChanged))
			return err
		})
		if got := s.read(u.ID).PasswordVersion; got != 2 {
			s.Errorf("version %d, want 2", got)
		}
		s.queued(u.ID, mail.KindPasswordChanged)
	}},
	{"SetPassword deletes mailed reset tokens and a pending email, and keeps the link to the present email", func(s *suite) {
		u := s.newUser()
		u.EmailVerifiedAt = time.Time{}
		s.create(u)
		token, verify := s.issue(u.ID, identity.PurposeReset), s.issue(u.ID, identity.PurposeConfirm)
		_, err := s.SetPassword(s.ctx, u.ID, 1, "new hash", "", s.now, mailTo(u, mail.KindPasswordChanged))
		s.ok(err)
		_, err = s.TokenUser(s.ctx, identity.PurposeReset, token, s.now)
		s.want(err, identity.ErrInvalidToken)
		s.ok(s.ConfirmEmail(s.ctx, verify, true, s.now))

		moved := s.update(u.ID, identity.Profile{Email: new("new." + u.Email)}, s.now)
		verify = s.issueTo(u.ID, moved.PendingEmail, identity.PurposeConfirm)
		_, err = s.SetPassword(s.ctx, u.ID, 2, "new hash", "", s.now, mailTo(u, mail.KindPasswordChanged))
		s.ok(err)
		s.want(s.ConfirmEmail(s.ctx, verify, true, s.now), identity.ErrInvalidToken)
		if got := s.read(u.ID); got.Email != u.Email || got.PendingEmail != "" || !got.PendingEmailAt.IsZero() {
			s.Errorf("afterwards %+v", got)
		}
	}},
	{"SetPassword, ResetPassword and Delete queue no mail without a recipient", func(s *suite) {
		u := s.added()
		nobody := mail.Envelope{Kind: mail.KindPasswordChanged, UserID: u.ID}
		_, err := s.SetPassword(s.ctx, u.ID, 1, "new hash", "", s.now, nobody)
		s.ok(err)
		_, err = s.ResetPassword(s.ctx, s.issue(u.ID, identity.PurposeReset), u.ID, "new hash", s.now, nobody)
		s.ok(err)
		_, err = s.Delete(s.ctx, u.ID, s.now, nobody)
		s.ok(err)
		s.queued(u.ID)
	}},
	{"SetPassword returns ErrNotFound for a deleted user and an unknown user", func(s *suite) {
		u := s.added()
		_, err := s.Delete(s.ctx, u.ID, s.now, mailTo(u, mail.KindAccountDeleted))
		s.ok(err)
		for _, id := range []string{u.ID, "nobody"} {
			_, err := s.SetPassword(s.ctx, id, 1, "new hash", "", s.now, mail.Envelope{})
			s.want(err, identity.ErrNotFound)
		}
	}},
}

var resetTests = []test{
	{"stores the hash, raises the version, revokes all sessions, verifies the email address and queues the given mail", func(s *suite) {
		u := s.newUser()
		u.EmailVerifiedAt = time.Time{}
		s.create(u)
		id := s.login(u.ID, 1)
		token := s.issue(u.ID, identity.PurposeReset)
		at := s.now.Add(time.Minute)
		revocation, err := s.ResetPassword(s.ctx, token, u.ID, "new hash", at, mailTo(u, mail.KindPasswordChanged))
		s.ok(err)
		u.PasswordHash, u.PasswordVersion, u.DeviceGeneration, u.UpdatedAt, u.EmailVerifiedAt = "new hash", 2, 1, at, at
		s.same("afterwards", s.read(u.ID), u)
		s.ended(u.ID, map[string]string{id: "password_reset"})
		s.revoked(revocation, u.ID, "")
		s.queued(u.ID, mail.KindPasswordChanged)
	}},
	{"makes a user with an unconfirmed email address active and deletes the verification token", func(s *suite) {
		u := s.create(s.pending())
		verify, token := s.issue(u.ID, identity.PurposeConfirm), s.issue(u.ID, identity.PurposeReset)
		_, err := s.ResetPassword(s.ctx, token, u.ID, "new hash", s.now, mailTo(u, mail.KindPasswordChanged))
		s.ok(err)
		if got := s.read(u.ID); got.Status != identity.StatusActive || !got.EmailVerifiedAt.Equal(s.now) {
			s.Errorf("afterwards %+v", got)
		}
		s.want(s.ConfirmEmail(s.ctx, verify, true, s.now), identity.ErrInvalidToken)
	}},
	{"succeeds for only one of fifty concurrent calls with the same token", func(s *suite) {
		u := s.added()
		token := s.issue(u.ID, identity.PurposeReset)
		s.once(50, identity.ErrInvalidToken, func() error {
			_, err := s.ResetPassword(s.ctx, token, u.ID, "new hash", s.now, mailTo(u, mail.KindPasswordChanged))
			return err
		})
		if got := s.read(u.ID).PasswordVersion; got != 2 {
			s.Errorf("version %d, want 2", got)
		}
		s.queued(u.ID, mail.KindPasswordChanged)
	}},
	{"refuses a token that is unknown, expired, replaced, another user's or for another purpose", func(s *suite) {
		u, other := s.added(), s.added()
		replaced := s.issue(u.ID, identity.PurposeReset)
		token := s.issue(u.ID, identity.PurposeReset)
		verify := s.issue(u.ID, identity.PurposeConfirm)
		for what, try := range map[string]struct {
			token  identity.TokenHash
			userID string
			at     time.Time
		}{
			"unknown":        {newHash(), u.ID, s.now},
			"expired":        {token, u.ID, s.now.Add(time.Hour)}, // exactly at its expiry time, a token is expired already
			"replaced":       {replaced, u.ID, s.now},
			"another user's": {token, other.ID, s.now},
			"no user's":      {token, "nobody", s.now},
			"a verification": {verify, u.ID, s.now},
		} {
			_, err := s.ResetPassword(s.ctx, try.token, try.userID, "new hash", try.at, mailTo(u, mail.KindPasswordChanged))
			if err != identity.ErrInvalidToken { //nolint:errorlint // a store must return its errors unwrapped
				s.Errorf("%s: error %v", what, err)
			}
		}
		s.same("afterwards", s.read(u.ID), u)
		s.same("the other user", s.read(other.ID), other)
		s.queued(u.ID)
		// The refused calls must not have deleted the token.
		_, err := s.ResetPassword(s.ctx, token, u.ID, "new hash", s.now.Add(time.Hour-time.Microsecond), mailTo(u, mail.KindPasswordChanged))
		s.ok(err)
	}},
}

var deleteTests = []test{
	{"revokes all sessions and queues the given mail, and the user is no longer found", func(s *suite) {
		u, other := s.added(), s.added()
		id, stranger := s.login(u.ID, 1), s.login(other.ID, 1)
		reset, verify := s.issue(u.ID, identity.PurposeReset), s.issue(u.ID, identity.PurposeConfirm)
		revocation, err := s.Delete(s.ctx, u.ID, s.now.Add(time.Minute), mailTo(u, mail.KindAccountDeleted))
		s.ok(err)
		s.ended(u.ID, map[string]string{id: "account_deleted"})
		s.ended(other.ID, map[string]string{stranger: ""})
		s.revoked(revocation, u.ID, "")
		s.queued(u.ID, mail.KindAccountDeleted)
		_, err = s.ByID(s.ctx, u.ID)
		s.want(err, identity.ErrNotFound)
		_, err = s.ByUsername(s.ctx, u.Username)
		s.want(err, identity.ErrNotFound)
		_, err = s.ByEmail(s.ctx, u.Email)
		s.want(err, identity.ErrNotFound)
		_, err = s.TokenUser(s.ctx, identity.PurposeReset, reset, s.now)
		s.want(err, identity.ErrInvalidToken)
		_, err = s.ResetPassword(s.ctx, reset, u.ID, "new hash", s.now, mail.Envelope{})
		s.want(err, identity.ErrInvalidToken)
		s.want(s.ConfirmEmail(s.ctx, verify, true, s.now), identity.ErrInvalidToken)
		s.want(s.IssueToken(s.ctx, u.ID, u.Email, identity.PurposeReset, newHash(), s.now.Add(time.Hour), s.now), identity.ErrNotFound)
		if _, err := s.Login(s.ctx, u.ID, 1, s.now); err == nil {
			s.Error("a deleted user could log in")
		}
	}},
	// This test fails if identity.User gets a new text field that Delete does not erase.
	{"erases every personal text in the user's database row, and keeps the row", func(s *suite) {
		u := s.added()
		u = s.update(u.ID, identity.Profile{Email: new("new." + u.Email)}, s.now)
		row, err := s.Row(s.ctx, u.ID)
		s.ok(err)
		for field, value := range personalTexts(&u) {
			if !contains(row, value.String()) {
				s.Errorf("User.%s is not in the row before the deletion: %s", field, row)
			}
		}
		_, err = s.Delete(s.ctx, u.ID, s.now, mailTo(u, mail.KindAccountDeleted))
		s.ok(err)
		row, err = s.Row(s.ctx, u.ID)
		s.ok(err)
		if !contains(row, u.ID) {
			s.Fatalf("the row was removed: %q", row)
		}
		for field, value := range personalTexts(&u) {
			if contains(row, value.String()) {
				s.Errorf("User.%s survives the deletion: %s", field, row)
			}
		}
	}},
	{"lets a new user take the deleted user's username and email", func(s *suite) {
		u := s.added()
		for range 2 { // twice, because the database row that is kept of the first user must not block the second deletion
			_, err := s.Delete(s.ctx, u.ID, s.now, mailTo(u, mail.KindAccountDeleted))
			s.ok(err)
			again := s.newUser()
			again.Username, again.Email = u.Username, u.Email
			s.create(again)
			got, err := s.ByUsername(s.ctx, u.Username)
			s.ok(err)
			s.same("the new owner", got, again)
			u = again
		}
	}},
	{"succeeds for only one of many concurrent calls for the same user", func(s *suite) {
		u := s.added()
		s.once(20, identity.ErrNotFound, func() error {
			_, err := s.Delete(s.ctx, u.ID, s.now, mailTo(u, mail.KindAccountDeleted))
			return err
		})
		s.queued(u.ID, mail.KindAccountDeleted)
		_, err := s.Delete(s.ctx, "nobody", s.now, mail.Envelope{})
		s.want(err, identity.ErrNotFound)
	}},
}
