package storetest

import (
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session"
)

// What is old is everybody's, so this has a store to itself.
var retentionTests = []test{
	{"failed logins are forgotten when they are old, the oldest first, with what was guessed", func(s *suite) {
		u := s.added()
		fail := func(userID string, at time.Time) {
			s.Helper()
			s.ok(s.RecordAttempt(s.ctx, identity.Attempt{ID: session.NewTimedID(at), UserID: userID, Reason: "wrong_password", At: at}))
		}
		left := func(what string, attempts, guesses, events int) {
			s.Helper()
			got, err := s.Attempts(s.ctx, u.ID)
			s.ok(err)
			gotGuesses, gotEvents, err := s.Guesses(s.ctx)
			s.ok(err)
			if len(got) != attempts || gotGuesses != guesses || gotEvents != events {
				s.Errorf("%s: %d attempts, %d guesses and %d events of those are left, want %d, %d and %d",
					what, len(got), gotGuesses, gotEvents, attempts, guesses, events)
			}
		}
		forget := func(before time.Time, limit, want int) {
			s.Helper()
			n, err := s.ForgetAttempts(s.ctx, before, limit)
			s.ok(err)
			if n != want {
				s.Errorf("forgot %d before %v, want %d", n, before, want)
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
		left("none asked for", 4, 4, 4)
		forget(s.now, 2, 2) // one of each time, and the two oldest events
		left("a batch", 3, 3, 2)
		forget(s.now, 10, 4)
		left("the rest", 1, 1, 1)
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
		left("by many at once", 0, 0, 0)
	}},
}
