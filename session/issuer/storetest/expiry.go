package storetest

import (
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// soon is the time after which the keys of the expiry test expire. It is long enough for a busy
// machine to read the keys before they expire.
const soon = 1500 * time.Millisecond

// The expiry of all kinds of keys is checked in one test, because each such test has to wait.
var expiryTests = []test{
	{"a store deletes each key issuer.Margin after its newest token expires", func(s *suite) {
		until := time.Now().Add(soon - issuer.Margin)
		ref := func() session.Ref {
			s.subject = issuer.NewID()
			return s.ref()
		}

		entry := ref()
		snapshot := s.active(1)
		snapshot.Until = until
		s.backfill(entry, snapshot)

		generation := ref()
		snapshot = s.active(1)
		snapshot.SubjectUntil = until
		s.backfill(generation, snapshot)

		backfilledLonger := ref()
		s.backfill(backfilledLonger, snapshot)
		s.backfill(backfilledLonger, s.active(1))

		raisedLonger := ref()
		s.backfill(raisedLonger, snapshot)
		s.apply(s.subjectRevocation(2, ""))

		raised := ref()
		s.backfill(raised, snapshot)
		r := s.subjectRevocation(2, "")
		r.Until = until
		s.apply(r)

		end := ref()
		for _, r := range []issuer.Revocation{s.tokenRevocation(end), s.sessionRevocation(end)} {
			r.Until = until
			s.apply(r)
		}

		before := []session.Lookup{s.look(entry), s.look(generation), s.look(raised), s.look(end)}
		gone := !before[0].HasEntry || !before[1].HasGeneration || before[2].Generation != 2 ||
			!before[3].Entry.Ended || !before[3].TokenRevoked
		// On a very busy machine the keys may rightly have expired before they were read.
		if gone && time.Now().Before(until.Add(issuer.Margin)) {
			s.Errorf("an entry expired too early: %+v", before)
		}

		s.eventually(5*time.Second, "the keys expire", func() bool {
			return !s.look(entry).HasEntry && !s.look(generation).HasGeneration && !s.look(raised).HasGeneration &&
				!s.look(end).HasEntry && !s.look(end).TokenRevoked
		})
		if early := time.Until(until.Add(issuer.Margin)); early > 10*time.Millisecond {
			s.Errorf("the entries expired %v too early", early)
		}
		if v := s.look(entry); !v.HasGeneration {
			s.Errorf("the generation expired with the entry: %+v", v)
		}
		if v := s.look(generation); !v.HasEntry {
			s.Errorf("the entry expired with the generation: %+v", v)
		}
		for _, ref := range []session.Ref{backfilledLonger, raisedLonger} {
			if v := s.look(ref); !v.HasGeneration {
				s.Errorf("a later expiry did not prolong the generation: %+v", v)
			}
		}
	}},
}
