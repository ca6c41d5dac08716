package ledgertest

import (
	"slices"
	"sync"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// This test needs a ledger of its own, because DueRevocations returns the revocations of all users.
var dueTests = []test{
	{"returns each revocation once per lease until RevocationDone is called for it", func(s *suite) {
		list := s.starts(2)
		_, first, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		_, second, err := s.Revoke(s.ctx, s.subject, list[1].ID, end(s.now.Add(time.Second), issuer.ReasonLogout))
		s.ok(err)
		claim := func(now time.Time, limit int) []issuer.Revocation {
			s.Helper()
			due, err := s.DueRevocations(s.ctx, now, time.Minute, limit)
			s.ok(err)
			return due
		}
		if due := claim(s.now.Add(-time.Second), 10); len(due) != 0 {
			s.Errorf("claimed before it was recorded: %+v", due)
		}
		now := s.now.Add(2 * time.Second)
		if due := claim(now, 1); !slices.Equal(due, []issuer.Revocation{first}) {
			s.Errorf("claimed with the limit 1: %+v, want %+v", due, first)
		}
		if due := claim(now, 10); !slices.Equal(due, []issuer.Revocation{second}) {
			s.Errorf("claimed next: %+v, want %+v", due, second)
		}
		if due := claim(now.Add(time.Minute-time.Microsecond), 10); len(due) != 0 {
			s.Errorf("claimed again within the lease: %+v", due)
		}
		if due := claim(now.Add(time.Minute), 10); len(due) != 2 {
			s.Errorf("claimed after the lease: %+v, want both revocations", due)
		}
		s.ok(s.RevocationDone(s.ctx, first.ID, second.ID))
		s.ok(s.RevocationDone(s.ctx, first.ID))
		s.ok(s.RevocationDone(s.ctx))
		if due := claim(now.Add(time.Hour), 10); len(due) != 0 {
			s.Errorf("claimed after RevocationDone: %+v", due)
		}
		_, err = s.Revocation(s.ctx, first.ID)
		s.want(err, issuer.ErrNotFound)
	}},
}

var parallelDueTests = []test{
	{"returns every revocation to exactly one of many concurrent callers", func(s *suite) {
		const n = 120
		for range n {
			started := s.start(s.now)
			_, _, err := s.Revoke(s.ctx, s.subject, started.ID, end(s.now, issuer.ReasonLogout))
			s.ok(err)
		}
		var mu sync.Mutex
		claimed := make(map[int64]int)
		s.together(10, func(int) {
			for {
				due, err := s.DueRevocations(s.ctx, s.now, time.Minute, 5)
				if err != nil {
					s.Error(err)
					return
				}
				if len(due) > 5 {
					s.Errorf("one call claimed %d revocations with a limit of 5", len(due))
				}
				if len(due) == 0 {
					return
				}
				mu.Lock()
				for _, r := range due {
					claimed[r.ID]++
				}
				mu.Unlock()
			}
		})
		// A caller stops when all remaining revocations are locked, because the caller that locked
		// them also claims them.
		if len(claimed) != n {
			s.Errorf("%d of %d revocations were claimed", len(claimed), n)
		}
		for id, times := range claimed {
			if times != 1 {
				s.Errorf("revocation %d was claimed %d times", id, times)
			}
		}
	}},
}
