package storetest

import (
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
)

var claimedTests = []test{
	{"replaces the email address by the pending one", func(s *suite) {
		u := s.added()
		moved := s.update(u.ID, identity.Profile{Email: new("New." + u.Email)}, s.now)
		at := s.now.Add(time.Minute)
		s.ok(s.ConfirmEmail(s.ctx, s.issueTo(u.ID, moved.PendingEmail, identity.PurposeConfirm), false, at))
		want := moved
		want.Email, want.PendingEmail, want.PendingEmailAt, want.EmailVerifiedAt, want.UpdatedAt = moved.PendingEmail, "", time.Time{}, at, at
		s.same("afterwards", s.read(u.ID), want)
		_, err := s.ByEmail(s.ctx, u.Email)
		s.want(err, identity.ErrNotFound)
		other := s.newUser()
		other.Email = u.Email
		s.create(other)
	}},
	{"takes the address from a user who has not confirmed it", func(s *suite) {
		squatter, owner := s.newUser(), s.added()
		squatter.EmailVerifiedAt = time.Time{}
		s.create(squatter)
		reset := s.issue(squatter.ID, identity.PurposeReset)
		moved := s.update(owner.ID, identity.Profile{Email: new(strings.ToUpper(squatter.Email))}, s.now)
		s.ok(s.ConfirmEmail(s.ctx, s.issueTo(owner.ID, moved.PendingEmail, identity.PurposeConfirm), false, s.now))
		got, err := s.ByEmail(s.ctx, squatter.Email)
		s.ok(err)
		if got.ID != owner.ID || got.Email != moved.PendingEmail {
			s.Errorf("the address belongs to %+v", got)
		}
		squatter.Email = ""
		s.same("the other user", s.read(squatter.ID), squatter)
		_, err = s.ResetPassword(s.ctx, reset, squatter.ID, "hash", s.now, mail.Envelope{})
		s.want(err, identity.ErrInvalidToken)
		s.same("the other user", s.update(squatter.ID, identity.Profile{}, s.now), squatter)
	}},
	{"only the first of several users who claim an address gets it", func(s *suite) {
		users := []identity.User{s.pending(), s.pending(), s.added()}
		users[1].Email = users[0].Email
		var tokens []identity.TokenHash
		for i, u := range users {
			if i < 2 {
				s.create(u)
			} else {
				s.update(u.ID, identity.Profile{Email: &users[0].Email}, s.now)
			}
			tokens = append(tokens, s.issueTo(u.ID, users[0].Email, identity.PurposeConfirm))
		}
		i := make(chan int, len(users))
		for n := range users {
			i <- n
		}
		s.once(len(users), identity.ErrInvalidToken, func() error { return s.ConfirmEmail(s.ctx, tokens[<-i], true, s.now) })
		_, err := s.Update(s.ctx, s.added().ID, identity.Profile{Email: &users[0].Email}, s.now)
		s.want(err, identity.ErrEmailTaken)
	}},
	{"demands a proof if another user has a token for the address", func(s *suite) {
		stranger, owner := s.pending(), s.pending()
		owner.Email = stranger.Email
		s.create(stranger)
		s.create(owner)
		issue := func(u identity.User, at time.Time) identity.TokenHash {
			hash := newHash()
			s.ok(s.IssueToken(s.ctx, u.ID, u.Email, identity.PurposeConfirm, hash, at.Add(time.Hour), at))
			return hash
		}
		first, second := issue(stranger, s.now), issue(owner, s.now.Add(time.Second))
		for _, token := range []identity.TokenHash{first, second} {
			s.want(s.ConfirmEmail(s.ctx, token, false, s.now.Add(time.Minute)), identity.ErrPasswordRequired)
		}
		s.same("the stranger", s.read(stranger.ID), s.asCreated(stranger))
		s.ok(s.ConfirmEmail(s.ctx, second, true, s.now.Add(time.Minute)))
		s.want(s.ConfirmEmail(s.ctx, first, true, s.now.Add(time.Minute)), identity.ErrInvalidToken)
		s.same("the stranger", s.read(stranger.ID), s.asCreated(stranger))
	}},
}

func (s *suite) issueUndo(undo identity.Undo) identity.TokenHash {
	s.Helper()
	hash := newHash()
	s.ok(s.IssueUndo(s.ctx, hash, undo))
	return hash
}

var undoTests = []test{
	{"restores the address, revokes all sessions and queues a mail to reset the password", func(s *suite) {
		u := s.added()
		id := s.login(u.ID, 1)
		undo := s.issueUndo(identity.Undo{UserID: u.ID, Email: u.Email, ChangedAt: s.now, ExpiresAt: s.now.Add(time.Hour)})
		moved := s.update(u.ID, identity.Profile{Email: new("new." + u.Email)}, s.now)
		s.ok(s.ConfirmEmail(s.ctx, s.issueTo(u.ID, moved.PendingEmail, identity.PurposeConfirm), true, s.now))
		s.update(u.ID, identity.Profile{Email: new("newer." + u.Email)}, s.now)
		pending := s.issueTo(u.ID, "newer."+u.Email, identity.PurposeConfirm)
		at := s.now.Add(time.Minute)
		revocation, err := s.UndoEmailChange(s.ctx, undo, "nobody's", at)
		s.ok(err)
		want := u
		want.EmailVerifiedAt, want.UpdatedAt = at, at
		want.PasswordHash, want.PasswordVersion = "nobody's", 2
		s.same("afterwards", s.read(u.ID), want)
		s.ended(u.ID, map[string]string{id: "email_change_undone"})
		s.revoked(revocation, u.ID, "")
		s.want(s.ConfirmEmail(s.ctx, pending, true, at), identity.ErrInvalidToken)
		_, err = s.UndoEmailChange(s.ctx, undo, "nobody's", at)
		s.want(err, identity.ErrInvalidToken)
	}},
	{"replaces a password that was set since", func(s *suite) {
		u := s.added()
		undo := s.issueUndo(identity.Undo{UserID: u.ID, Email: u.Email, ChangedAt: s.now, ExpiresAt: s.now.Add(time.Hour)})
		_, err := s.SetPassword(s.ctx, u.ID, 1, "a thief's", "", s.now, mail.Envelope{})
		s.ok(err)
		_, err = s.UndoEmailChange(s.ctx, undo, "nobody's", s.now)
		s.ok(err)
		if got := s.read(u.ID); got.PasswordHash != "nobody's" || got.PasswordVersion != 3 {
			s.Errorf("afterwards %+v", got)
		}
	}},
	{"deletes undos of later changes and keeps those of earlier ones", func(s *suite) {
		u := s.added()
		var undos []identity.TokenHash
		for i := range 3 {
			at := s.now.Add(time.Duration(i) * time.Second)
			undos = append(undos, s.issueUndo(identity.Undo{
				UserID: u.ID, Email: strings.Repeat("a", i+1) + u.Email, ChangedAt: at, ExpiresAt: at.Add(time.Hour),
			}))
		}
		for _, c := range []struct {
			use  int
			want error
		}{{1, nil}, {2, identity.ErrInvalidToken}, {0, nil}} {
			_, err := s.UndoEmailChange(s.ctx, undos[c.use], "nobody's", s.now)
			s.want(err, c.want)
		}
		if got := s.read(u.ID).Email; got != "a"+u.Email {
			s.Errorf("the address is %s", got)
		}
	}},
	{"succeeds for only one of many concurrent calls, and not after the token expired", func(s *suite) {
		u := s.added()
		undo := s.issueUndo(identity.Undo{UserID: u.ID, Email: u.Email, ChangedAt: s.now, ExpiresAt: s.now.Add(time.Hour)})
		_, err := s.UndoEmailChange(s.ctx, undo, "nobody's", s.now.Add(time.Hour))
		s.want(err, identity.ErrInvalidToken)
		s.once(10, identity.ErrInvalidToken, func() error {
			_, err := s.UndoEmailChange(s.ctx, undo, "nobody's", s.now)
			return err
		})
	}},
	{"takes the address from a user who has not confirmed it, but not from one who has", func(s *suite) {
		for _, confirmed := range []bool{false, true} {
			u := s.added()
			undo := s.issueUndo(identity.Undo{UserID: u.ID, Email: u.Email, ChangedAt: s.now, ExpiresAt: s.now.Add(time.Hour)})
			moved := s.update(u.ID, identity.Profile{Email: new("new." + u.Email)}, s.now)
			s.ok(s.ConfirmEmail(s.ctx, s.issueTo(u.ID, moved.PendingEmail, identity.PurposeConfirm), true, s.now))
			other := s.newUser()
			other.Email = u.Email
			want := identity.ErrInvalidToken
			if !confirmed {
				other.EmailVerifiedAt, want = time.Time{}, nil
			}
			s.create(other)
			_, err := s.UndoEmailChange(s.ctx, undo, "nobody's", s.now)
			s.want(err, want)
		}
	}},
	{"IssueUndo returns ErrNotFound for a deleted user, and Delete deletes undos", func(s *suite) {
		u := s.added()
		undo := s.issueUndo(identity.Undo{UserID: u.ID, Email: u.Email, ChangedAt: s.now, ExpiresAt: s.now.Add(time.Hour)})
		_, err := s.Delete(s.ctx, u.ID, s.now, mail.Envelope{})
		s.ok(err)
		s.want(s.IssueUndo(s.ctx, newHash(), identity.Undo{UserID: u.ID, ChangedAt: s.now, ExpiresAt: s.now}), identity.ErrNotFound)
		_, err = s.UndoEmailChange(s.ctx, undo, "nobody's", s.now)
		s.want(err, identity.ErrInvalidToken)
	}},
}

// The test of ForgetUndos needs its own store, because ForgetUndos affects all users.
var forgetUndoTests = []test{
	{"removes expired undos, oldest first", func(s *suite) {
		u := s.added()
		for i := range 3 {
			s.issueUndo(identity.Undo{UserID: u.ID, Email: u.Email, ChangedAt: s.now, ExpiresAt: s.now.Add(time.Duration(i) * time.Second)})
		}
		for _, c := range []struct{ limit, want int }{{0, 0}, {1, 1}, {10, 1}, {10, 0}} {
			n, err := s.ForgetUndos(s.ctx, s.now.Add(2*time.Second), c.limit)
			s.ok(err)
			if n != c.want {
				s.Errorf("removed %d, want %d", n, c.want)
			}
		}
	}},
}
