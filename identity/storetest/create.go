package storetest

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
)

// holder is a kind of user who already has the username that another user wants.
type holder struct {
	what  string
	age   time.Duration
	with  func() identity.User // returns a new user of this kind
	stale bool                 // whether the store must remove the user, because the registration has expired
}

func (s *suite) holders() []holder {
	return []holder{
		{"an expired registration", time.Microsecond, s.pending, true},
		{"a registration that is about to expire", 0, s.pending, false},
		{"an old confirmed user", 365 * day, s.newUser, false},
	}
}

var createTests = []test{
	{"keeps the spelling of username and email, and finds the user by any upper or lower case", func(s *suite) {
		for _, want := range []identity.User{s.newUser(), s.pending()} {
			s.create(want)
			s.same("by id", s.read(want.ID), want)
			for _, spelling := range []func(string) string{strings.ToLower, strings.ToUpper, strings.Clone} {
				got, err := s.ByUsername(s.ctx, spelling(want.Username))
				s.ok(err)
				s.same("by username", got, want)
				got, err = s.ByEmail(s.ctx, spelling(want.Email))
				s.ok(err)
				s.same("by email", got, want)
			}
		}
	}},
	{"does not find a user by the email as username, or by the username as email", func(s *suite) {
		u := s.added()
		_, err := s.ByID(s.ctx, u.Username)
		s.want(err, identity.ErrNotFound)
		_, err = s.ByUsername(s.ctx, u.Email)
		s.want(err, identity.ErrNotFound)
		_, err = s.ByEmail(s.ctx, u.Username)
		s.want(err, identity.ErrNotFound)
		_, err = s.ByUsername(s.ctx, "")
		s.want(err, identity.ErrNotFound)
	}},
	{"finds no user by an id, username or email with NUL or invalid UTF-8", func(s *suite) {
		s.added()
		for _, odd := range []string{"\xff\xfe", "a\x00b"} {
			_, err := s.ByID(s.ctx, odd)
			s.want(err, identity.ErrNotFound)
			_, err = s.ByUsername(s.ctx, odd)
			s.want(err, identity.ErrNotFound)
			_, err = s.ByEmail(s.ctx, odd)
			s.want(err, identity.ErrNotFound)
			_, err = s.Delete(s.ctx, odd, s.now, mail.Envelope{})
			s.want(err, identity.ErrNotFound)
			s.want(s.IssueToken(s.ctx, odd, odd, identity.PurposeReset, newHash(), s.now, s.now), identity.ErrNotFound)
			s.want(s.RecordAttempt(s.ctx, identity.Attempt{ID: odd, UserID: odd, At: s.now}), identity.ErrNotFound)
		}
	}},
	{"refuses another spelling of a taken username or email", func(s *suite) {
		for _, same := range [][2]string{
			{"anna", "ANNA"},
			{"Straße", "STRASSE"},
			{"ΣΊΣΥΦΟΣ", "σίσυφος"},    // the letter Σ has two lower-case forms
			{"\u00c5sa", "a\u030asa"}, // Å as one character, and å as the letter a and a combining ring
			{"\ufb01nn", "FINN"},      // the ligature ﬁ folds to the letters fi
		} {
			// The id is appended, because other tests use the same store and may use the same
			// names.
			first, second := s.newUser(), s.newUser()
			first.Username, second.Username = same[0]+first.ID, same[1]+first.ID
			s.create(first)
			s.want(s.Create(s.ctx, second, time.Time{}, nil), identity.ErrUsernameTaken)
			third, fourth := s.newUser(), s.newUser()
			third.Email, fourth.Email = same[0]+third.ID+"@example.org", same[1]+third.ID+"@EXAMPLE.org"
			s.create(third)
			s.want(s.Create(s.ctx, fourth, time.Time{}, nil), identity.ErrEmailTaken)
		}
	}},
	{"returns ErrUsernameTaken if both the username and the email are taken", func(s *suite) {
		one, other := s.added(), s.added()
		u := s.newUser()
		u.Username, u.Email = one.Username, other.Email
		s.want(s.Create(s.ctx, u, time.Time{}, nil), identity.ErrUsernameTaken)
		u.Email = one.Email
		s.want(s.Create(s.ctx, u, time.Time{}, nil), identity.ErrUsernameTaken)
	}},
	{"queues the given mail only if the user is added", func(s *suite) {
		u := s.newUser()
		notice := mailTo(u, mail.KindConfirmEmail)
		s.ok(s.Create(s.ctx, u, time.Time{}, &notice))
		s.queued(u.ID, mail.KindConfirmEmail)
		other := s.newUser()
		other.Username = u.Username
		notice = mailTo(other, mail.KindConfirmEmail)
		s.want(s.Create(s.ctx, other, time.Time{}, &notice), identity.ErrUsernameTaken)
		s.queued(other.ID)
	}},
	{"removes an expired registration with a wanted username, and its mailed tokens", func(s *suite) {
		stale := s.now
		for _, holder := range s.holders() {
			taken := holder.with()
			taken.CreatedAt = stale.Add(-holder.age)
			s.create(taken)
			token := s.issue(taken.ID, identity.PurposeConfirm)
			s.ok(s.RecordAttempt(s.ctx, identity.Attempt{ID: taken.ID, UserID: taken.ID, Reason: "unverified", At: s.now}))

			u := s.newUser()
			u.Username = taken.Username
			err := s.Create(s.ctx, u, stale, nil)
			if !holder.stale {
				if err != identity.ErrUsernameTaken { //nolint:errorlint // a store must return its errors unwrapped
					s.Errorf("%s: error %v", holder.what, err)
				}
				s.same(holder.what, s.read(taken.ID), s.asCreated(taken))
				continue
			}
			s.ok(err)
			_, err = s.ByID(s.ctx, taken.ID)
			s.want(err, identity.ErrNotFound)
			_, err = s.TokenUser(s.ctx, identity.PurposeConfirm, token, s.now)
			s.want(err, identity.ErrInvalidToken)
			s.want(s.ConfirmEmail(s.ctx, token, true, s.now), identity.ErrInvalidToken)
			s.same("the new user", s.read(u.ID), u)
		}
	}},
	{"takes an email for active users only, and none for a pending user if another has confirmed it", func(s *suite) {
		first, second := s.pending(), s.pending()
		second.Email, second.CreatedAt = strings.ToUpper(first.Email), first.CreatedAt.Add(time.Second)
		s.create(first)
		s.create(second)
		got, err := s.ByEmail(s.ctx, first.Email)
		s.ok(err)
		s.same("the newest pending user", got, s.asCreated(second))

		active, third := s.newUser(), s.newUser()
		active.Email, active.EmailVerifiedAt, third.Email = first.Email, time.Time{}, first.Email
		s.create(active)
		got, err = s.ByEmail(s.ctx, first.Email)
		s.ok(err)
		s.same("the active user", got, active)
		s.want(s.Create(s.ctx, third, time.Time{}, nil), identity.ErrEmailTaken)
		third.Status, third.EmailVerifiedAt = identity.StatusPending, time.Time{}
		s.create(third)

		confirmed, fourth := s.added(), s.pending()
		fourth.Email = confirmed.Email
		s.want(s.Create(s.ctx, fourth, time.Time{}, nil), identity.ErrEmailTaken)
	}},
	{"keeps an expired registration if the new user is refused for another reason", func(s *suite) {
		waiting, holder := s.pending(), s.added()
		waiting.CreatedAt = s.now.Add(-day)
		s.create(waiting)
		u := s.newUser()
		u.Username, u.Email = waiting.Username, holder.Email
		s.want(s.Create(s.ctx, u, s.now, nil), identity.ErrEmailTaken)
		s.read(waiting.ID)
	}},
	{"adds only one of many concurrent new users with the same username or email", func(s *suite) {
		want := s.newUser()
		s.once(20, identity.ErrUsernameTaken, func() error {
			u := s.newUser()
			u.Username = strings.ToUpper(want.Username)
			return s.Create(s.ctx, u, time.Time{}, nil)
		})
		s.once(20, identity.ErrEmailTaken, func() error {
			u := s.newUser()
			u.Email = want.Email
			return s.Create(s.ctx, u, time.Time{}, nil)
		})
	}},
	{"adds only one of many concurrent new users who want the username of an expired registration", func(s *suite) {
		waiting := s.pending()
		waiting.CreatedAt = s.now.Add(-day)
		s.create(waiting)
		s.once(20, identity.ErrUsernameTaken, func() error {
			u := s.newUser()
			u.Username = waiting.Username
			return s.Create(s.ctx, u, s.now, nil)
		})
	}},
}

// asCreated returns a user as the store returns it after Create: UpdatedAt is not before CreatedAt.
func (s *suite) asCreated(u identity.User) identity.User {
	if u.UpdatedAt.Before(u.CreatedAt) {
		u.UpdatedAt = u.CreatedAt
	}
	return u
}

var updateTests = []test{
	{"changes each field that the profile sets and nothing else", func(s *suite) {
		want := s.added()
		update := func(what string, p identity.Profile) {
			want.UpdatedAt = want.UpdatedAt.Add(time.Minute)
			if p.Email != nil {
				want.PendingEmailAt = want.UpdatedAt
			}
			s.same("returned after "+what, s.update(want.ID, p, want.UpdatedAt), want)
			s.same("stored after "+what, s.read(want.ID), want)
		}
		update("no change", identity.Profile{})
		want.FirstName = ""
		update("removing a name", identity.Profile{FirstName: new("")})
		for _, field := range reflect.VisibleFields(reflect.TypeFor[identity.Profile]()) {
			text, changed := "new"+want.Email, field.Name
			if changed == "Email" {
				changed = "PendingEmail"
			}
			var p identity.Profile
			reflect.ValueOf(&p).Elem().FieldByIndex(field.Index).Set(reflect.ValueOf(&text))
			reflect.ValueOf(&want).Elem().FieldByName(changed).SetString(text)
			update("a change of "+field.Name, p)
		}
	}},
	{"keeps the email address until the new one is confirmed, and queues mails to both", func(s *suite) {
		u := s.added()
		moved := s.update(u.ID, identity.Profile{Email: new("new." + u.Email)}, s.now)
		got, err := s.ByEmail(s.ctx, u.Email)
		s.ok(err)
		s.same("by the present email", got, moved)
		_, err = s.ByEmail(s.ctx, moved.PendingEmail)
		s.want(err, identity.ErrNotFound)
		mails, err := s.Mails(s.ctx, u.ID)
		s.ok(err)
		if len(mails) != 2 || mails[0].Kind != mail.KindConfirmEmail || mails[0].To != moved.PendingEmail ||
			mails[1].Kind != mail.KindEmailChange || mails[1].To != u.Email {
			s.Errorf("queued %+v", mails)
		}

		token := s.issueTo(u.ID, moved.PendingEmail, identity.PurposeConfirm)
		back := s.update(u.ID, identity.Profile{Email: &u.Email}, s.now)
		s.same("after the change was taken back", back, u)
		s.want(s.ConfirmEmail(s.ctx, token, true, s.now), identity.ErrInvalidToken)
	}},
	{"queues no mail to a present email address that is not confirmed", func(s *suite) {
		u := s.newUser()
		u.EmailVerifiedAt = time.Time{}
		s.create(u)
		s.update(u.ID, identity.Profile{Email: new("new." + u.Email)}, s.now)
		s.queued(u.ID, mail.KindConfirmEmail)
	}},
	{"refuses an email address that another user has confirmed and changes nothing", func(s *suite) {
		holder, u := s.added(), s.added()
		_, err := s.Update(s.ctx, u.ID, identity.Profile{FirstName: new("Changed"), Email: new(strings.ToUpper(holder.Email))}, s.now)
		s.want(err, identity.ErrEmailTaken)
		s.same("afterwards", s.read(u.ID), u)
		s.queued(u.ID)
	}},
	{"keeps another spelling of the user's own email address as pending", func(s *suite) {
		u := s.added()
		u.PendingEmail, u.PendingEmailAt = strings.ToUpper(u.Email), s.now
		s.update(u.ID, identity.Profile{Email: &u.PendingEmail}, s.now)
		s.same("afterwards", s.read(u.ID), u)
		s.queued(u.ID, mail.KindConfirmEmail, mail.KindEmailChange)
	}},
	{"keeps concurrent changes of different fields", func(s *suite) {
		u := s.added()
		for round := range 10 {
			first, last, email := fmt.Sprint("First", round), fmt.Sprint("Last", round), fmt.Sprint(round, u.Email)
			changes := []identity.Profile{{FirstName: &first}, {LastName: &last}, {Email: &email}}
			s.together(len(changes), func(i int) {
				if _, err := s.Update(s.ctx, u.ID, changes[i], s.now); err != nil {
					s.Error(err)
				}
			})
			want := u
			want.FirstName, want.LastName, want.PendingEmail, want.PendingEmailAt = first, last, email, s.now
			s.same("afterwards", s.read(u.ID), want)
		}
	}},
	{"keeps a change of name while the email address is confirmed concurrently", func(s *suite) {
		for range 10 {
			u := s.create(s.pending())
			token := s.issue(u.ID, identity.PurposeConfirm)
			changes := []func() error{
				func() error { return s.ConfirmEmail(s.ctx, token, true, s.now) },
				func() error {
					_, err := s.Update(s.ctx, u.ID, identity.Profile{FirstName: new("Changed")}, s.now)
					return err
				},
			}
			s.together(len(changes), func(i int) {
				if err := changes[i](); err != nil {
					s.Error(err)
				}
			})
			u.FirstName, u.Status, u.EmailVerifiedAt = "Changed", identity.StatusActive, s.now
			s.same("afterwards", s.read(u.ID), u)
		}
	}},
	{"returns ErrNotFound for a deleted user and an unknown user", func(s *suite) {
		u := s.added()
		_, err := s.Delete(s.ctx, u.ID, s.now, mailTo(u, mail.KindAccountDeleted))
		s.ok(err)
		for _, id := range []string{u.ID, "nobody"} {
			_, err := s.Update(s.ctx, id, identity.Profile{FirstName: new("Changed")}, s.now)
			s.want(err, identity.ErrNotFound)
		}
	}},
	{"keeps mailed tokens until another email address is confirmed", func(s *suite) {
		u := s.added()
		token := s.issue(u.ID, identity.PurposeReset)
		moved := s.update(u.ID, identity.Profile{FirstName: new("Changed"), Email: new("new." + u.Email)}, s.now)
		_, err := s.TokenUser(s.ctx, identity.PurposeReset, token, s.now)
		s.ok(err)
		s.ok(s.ConfirmEmail(s.ctx, s.issueTo(u.ID, moved.PendingEmail, identity.PurposeConfirm), true, s.now))
		_, err = s.TokenUser(s.ctx, identity.PurposeReset, token, s.now)
		s.want(err, identity.ErrInvalidToken)
		_, err = s.ResetPassword(s.ctx, token, u.ID, "hash", s.now, mailTo(u, mail.KindPasswordChanged))
		s.want(err, identity.ErrInvalidToken)
	}},
}

// update calls Update.
func (s *suite) update(id string, p identity.Profile, at time.Time) identity.User {
	s.Helper()
	u, err := s.Update(s.ctx, id, p, at)
	s.ok(err)
	return u
}
