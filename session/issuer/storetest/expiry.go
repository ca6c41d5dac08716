package storetest

import (
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// soon is when what expires during a test does: late enough for a busy machine
// to look at it before.
const soon = 1500 * time.Millisecond

// The tests of what only time brings about are one, so that they wait once.
var expiryTests = []test{
	{"everything stays for Margin after its time, and no longer", func(s *suite) {
		until := time.Now().Add(soon - issuer.Margin)
		ref := func() session.Ref {
			s.subject = issuer.NewID()
			return s.ref()
		}

		entry := ref()
		fill := s.active(1)
		fill.Until = until
		s.fill(entry, fill)

		generation := ref()
		fill = s.active(1)
		fill.SubjectUntil = until
		s.fill(generation, fill)

		putBackLonger := ref()
		s.fill(putBackLonger, fill)
		s.fill(putBackLonger, s.active(1))

		raisedLonger := ref()
		s.fill(raisedLonger, fill)
		s.apply(s.endOfAll(2, ""))

		raised := ref()
		s.fill(raised, fill)
		r := s.endOfAll(2, "")
		r.Until = until
		s.apply(r)

		end := ref()
		for _, r := range []issuer.Revocation{s.endOfToken(end), s.endOf(end)} {
			r.Until = until
			s.apply(r)
		}

		before := []session.Lookup{s.look(entry), s.look(generation), s.look(raised), s.look(end)}
		gone := !before[0].HasEntry || !before[1].HasGeneration || before[2].Generation != 2 ||
			!before[3].Entry.Ended || !before[3].TokenRevoked
		// A machine so busy that it looks too late proves nothing.
		if gone && time.Now().Before(until.Add(issuer.Margin)) {
			s.Errorf("gone too early: %+v", before)
		}

		s.eventually(5*time.Second, "all of it expires", func() bool {
			return !s.look(entry).HasEntry && !s.look(generation).HasGeneration && !s.look(raised).HasGeneration &&
				!s.look(end).HasEntry && !s.look(end).TokenRevoked
		})
		if early := time.Until(until.Add(issuer.Margin)); early > 10*time.Millisecond {
			s.Errorf("all of it expired %v too early", early)
		}
		if v := s.look(entry); !v.HasGeneration {
			s.Errorf("the generation went with the entry: %+v", v)
		}
		if v := s.look(generation); !v.HasEntry {
			s.Errorf("the entry went with the generation: %+v", v)
		}
		for _, ref := range []session.Ref{putBackLonger, raisedLonger} {
			if v := s.look(ref); !v.HasGeneration {
				s.Errorf("a later time did not keep the generation: %+v", v)
			}
		}
	}},
}
