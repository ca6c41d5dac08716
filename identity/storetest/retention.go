package storetest

import (
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// The test of ForgetAttempts needs its own store, because ForgetAttempts affects all users.
var retentionTests = []test{
	{"removes old failed logins of known and unknown users, oldest first", func(s *suite) {
		u := s.added()
		fail := func(userID string, at time.Time) {
			s.Helper()
			s.ok(s.RecordAttempt(s.ctx, identity.Attempt{ID: issuer.NewTimedID(at), UserID: userID, Reason: "wrong_password", At: at}))
		}
		left := func(what string, attempts, guesses, events int) {
			s.Helper()
			got, err := s.Attempts(s.ctx, u.ID)
			s.ok(err)
			gotGuesses, gotEvents, err := s.Guesses(s.ctx)
			s.ok(err)
			if len(got) != attempts || gotGuesses != guesses || gotEvents != events {
				s.Errorf("%s: %d attempts, %d guesses and %d events are left, want %d, %d and %d",
					what, len(got), gotGuesses, gotEvents, attempts, guesses, events)
			}
		}
		forget := func(before time.Time, limit, want int) {
			s.Helper()
			n, err := s.ForgetAttempts(s.ctx, before, limit)
			s.ok(err)
			if n != want {
				s.Errorf("removed %d from before %v, want %d", n, before, want)
			}
		}
		for _, minutes := range []time.Duration{-3, -2, -1, 1} {
			at := s.now.Add(minutes * time.Minute)
			fail(u.ID, at)
			fail("", at)
		}
		left("before", 4, 4, 4)
		forget(s.now.Add(-time.Hour), 10, 0)
		forget(s.now, 0, 0)
		left("with a limit of 0", 4, 4, 4)
		forget(s.now, 2, 2) // removes one failed login of the user, one of an unknown user, and two audit events without a user
		left("after a batch", 3, 3, 2)
		forget(s.now, 10, 4)
		left("after the rest", 1, 1, 1)
		forget(s.now, 10, 0)

		for range 20 {
			fail("", s.now)
		}
		s.together(8, func(int) {
			for {
				switch n, err := s.ForgetAttempts(s.ctx, s.now.Add(time.Hour), 1); {
				case err != nil:
					s.Error(err)
					return
				case n == 0:
					return
				}
			}
		})
		left("after concurrent calls", 0, 0, 0)
	}},
}

var pendingTests = []test{
	{"removes old users with an unconfirmed email address, oldest first, with their mailed tokens and failed logins", func(s *suite) {
		add := func(u identity.User, age time.Duration) identity.User {
			s.Helper()
			u.CreatedAt = s.now.Add(-age)
			return s.create(u)
		}
		forget := func(limit, want int) {
			s.Helper()
			n, err := s.ForgetPending(s.ctx, s.now, limit)
			s.ok(err)
			if n != want {
				s.Errorf("removed %d, want %d", n, want)
			}
		}
		kept := []identity.User{add(s.newUser(), 365*day), add(s.pending(), 0)}
		second, third, first := add(s.pending(), 2*time.Minute), add(s.pending(), time.Microsecond), add(s.pending(), 3*time.Minute)
		tokens := make(map[string]identity.TokenHash)
		for _, u := range []identity.User{first, second, third} {
			tokens[u.ID] = s.issue(u.ID, identity.PurposeConfirm)
			s.ok(s.RecordAttempt(s.ctx, identity.Attempt{ID: u.ID, UserID: u.ID, Reason: "unverified", At: s.now}))
		}
		forget(0, 0)
		forget(2, 2)
		s.read(third.ID)
		for _, u := range []identity.User{first, second} {
			if row, err := s.Row(s.ctx, u.ID); err == nil {
				s.Errorf("the row is still there: %s", row)
			}
			got, err := s.Attempts(s.ctx, u.ID)
			s.ok(err)
			if len(got) != 0 {
				s.Errorf("failed logins are still there: %+v", got)
			}
			s.want(s.ConfirmEmail(s.ctx, tokens[u.ID], true, s.now), identity.ErrInvalidToken)
			again := s.newUser()
			again.Username, again.Email = u.Username, u.Email
			s.create(again)
		}
		forget(2, 1)
		forget(2, 0)
		for _, u := range kept {
			s.same("kept", s.read(u.ID), s.asCreated(u))
		}

		for range 20 {
			add(s.pending(), time.Minute)
		}
		var forgotten atomic.Int64
		s.together(8, func(int) {
			for {
				switch n, err := s.ForgetPending(s.ctx, s.now, 1); {
				case err != nil:
					s.Error(err)
					return
				case n == 0:
					return
				default:
					forgotten.Add(int64(n))
				}
			}
		})
		if n := forgotten.Load(); n != 20 {
			s.Errorf("concurrent calls removed %d, want 20", n)
		}
	}},
}

var confirmTests = []test{
	{"either ForgetPending removes the user or ConfirmEmail confirms the email address, but not both", func(s *suite) {
		for range 20 {
			u := s.pending()
			u.CreatedAt = s.now.Add(-365 * day)
			s.create(u)
			token := s.issue(u.ID, identity.PurposeConfirm)
			var verified error
			s.together(2, func(i int) {
				if i == 0 {
					verified = s.ConfirmEmail(s.ctx, token, true, s.now)
				} else if _, err := s.ForgetPending(s.ctx, s.now, 1); err != nil {
					s.Error(err)
				}
			})
			_, err := s.ByID(s.ctx, u.ID)
			if verified == nil {
				s.ok(err)
			} else {
				s.want(verified, identity.ErrInvalidToken)
				s.want(err, identity.ErrNotFound)
			}
		}
	}},
}
