package storetest

import (
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/identity"
)

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
