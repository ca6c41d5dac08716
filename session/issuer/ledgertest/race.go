package ledgertest

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// rounds is how many times each test repeats its concurrent calls. A ledger without locks fails at least
// one of the rounds.
const rounds = 25

var raceTests = []test{
	{"every concurrent Rotate gets the refresh token that the Rotate before it stored", func(s *suite) {
		const n = 50
		started := s.start(s.now)
		var rotated atomic.Int64
		seen := make([]issuer.Hash, n)
		s.together(n, func(i int) {
			_, _, err := s.Rotate(s.ctx, family(started.ID), func(r issuer.Rotatable) (issuer.Rotation, error) {
				seen[i] = r.Current
				return rotation(r, s.now), nil
			})
			if err != nil {
				s.Error(err)
				return
			}
			rotated.Add(1)
		})
		// All calls must have got different refresh tokens, because each call replaces the token
		// that the call before it stored.
		order := make(map[issuer.Hash]bool)
		for _, hash := range seen {
			order[hash] = true
		}
		if rotated.Load() != n || len(order) != n {
			s.Errorf("%d calls of Rotate got %d different refresh tokens, want %d", rotated.Load(), len(order), n)
		}
	}},
	{"no session from a concurrent login with the old password is active after a password change", func(s *suite) {
		for round := range rounds {
			subject := s.otherUser()
			at := s.now.Add(time.Duration(round) * time.Minute)
			s.together(5, func(i int) {
				if i == 0 {
					if err := s.SetPassword(s.ctx, subject, 1, "", at); err != nil {
						s.Error(err)
					}
					return
				}
				if _, _, err := s.Start(s.ctx, loginOf(subject, at)); err != nil && !errors.Is(err, issuer.ErrCredentialChanged) {
					s.Error(err)
				}
			})
			list, err := s.Active(s.ctx, subject, at, issuer.Page{})
			s.ok(err)
			if len(list) != 0 {
				s.Errorf("round %d: %d sessions that were opened with the old password are active", round, len(list))
			}
		}
	}},
	{"RevokeAll during logins and refreshes leaves no active session of an older generation", func(s *suite) {
		for round := range rounds {
			subject := s.otherUser()
			at := s.now.Add(time.Duration(round) * time.Minute)
			old, _, err := s.Start(s.ctx, loginOf(subject, at))
			s.ok(err)
			s.together(7, func(i int) {
				var err error
				switch {
				case i == 0:
					_, _, err = s.RevokeAll(s.ctx, subject, "", end(at, issuer.ReasonRevokedAll))
				case i%2 == 0:
					_, _, err = s.Start(s.ctx, loginOf(subject, at))
				default:
					if _, err = s.refresh(old.ID, at); errors.Is(err, errEnded) {
						err = nil
					}
				}
				if err != nil {
					s.Error(err)
				}
			})
			list, err := s.Active(s.ctx, subject, at, issuer.Page{})
			s.ok(err)
			for _, live := range list {
				if live.ID == old.ID {
					s.Errorf("round %d: the session from before RevokeAll is active", round)
				}
				record, err := s.Find(s.ctx, subject, live.ID, at)
				s.ok(err)
				if record.Generation < record.SubjectGeneration {
					s.Errorf("round %d: an active session has generation %d, and its subject has %d", round, record.Generation, record.SubjectGeneration)
				}
			}
		}
	}},
	{"concurrent RevokeAll calls that keep different sessions leave at most one active session", func(s *suite) {
		for round := range rounds {
			subject := s.otherUser()
			at := s.now.Add(time.Duration(round) * time.Minute)
			var devices [4]issuer.Session
			for i := range devices {
				var err error
				devices[i], _, err = s.Start(s.ctx, loginOf(subject, at))
				s.ok(err)
			}
			s.together(len(devices), func(i int) {
				if _, _, err := s.RevokeAll(s.ctx, subject, devices[i].ID, end(at, issuer.ReasonRevokedOthers)); err != nil {
					s.Error(err)
				}
			})
			// The first RevokeAll keeps its session and ends the sessions that the later calls
			// should keep. A later RevokeAll therefore keeps no session.
			list, err := s.Active(s.ctx, subject, at, issuer.Page{})
			s.ok(err)
			for _, live := range list {
				record, err := s.Find(s.ctx, subject, live.ID, at)
				s.ok(err)
				if len(list) > 1 || record.Generation > record.SubjectGeneration {
					s.Errorf("round %d: %d sessions are active; one has generation %d, and its subject has %d", round, len(list), record.Generation, record.SubjectGeneration)
				}
			}
		}
	}},
	{"only one of many concurrent Revoke calls sets the time when the session ended", func(s *suite) {
		started := s.start(s.now)
		var at [20]time.Time
		var ended [20]issuer.Session
		s.together(len(at), func(i int) {
			at[i] = s.now.Add(time.Duration(i) * time.Microsecond)
			var err error
			if ended[i], _, err = s.Revoke(s.ctx, s.subject, started.ID, end(at[i], issuer.ReasonLogout)); err != nil {
				s.Error(err)
			}
		})
		for i := range ended {
			if ended[i] != ended[0] {
				s.Errorf("the session ended at %v and again at %v", ended[0].EndedAt, ended[i].EndedAt)
			}
		}
	}},
}
