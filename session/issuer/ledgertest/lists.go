package ledgertest

import (
	"slices"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

var listTests = []test{
	{"Active returns only sessions that have not ended or expired, newest first", func(s *suite) {
		list := s.starts(4)
		_, _, err := s.Start(s.ctx, loginOf(s.otherUser(), s.now))
		s.ok(err)
		_, _, err = s.Revoke(s.ctx, s.subject, list[1].ID, end(s.now, issuer.ReasonRevoked))
		s.ok(err)
		want := []string{list[3].ID, list[2].ID, list[0].ID}
		s.sameIDs("active", ids(s.active(s.now, issuer.Page{})), want)
		// A session has expired at the time ExpiresAt, but not before.
		s.sameIDs("just before the first session expires", ids(s.active(list[0].ExpiresAt.Add(-time.Microsecond), issuer.Page{})), want)
		s.sameIDs("when the first session expires", ids(s.active(list[0].ExpiresAt, issuer.Page{})), want[:2])
	}},
	{"Active returns the same session as Find", func(s *suite) {
		started := s.start(s.now)
		s.same("listed", s.active(s.now, issuer.Page{})[0], started)
	}},
	{"pages of Active and History have no gaps and no duplicates", func(s *suite) {
		list := s.starts(7)
		want := newestFirst(list)
		for _, size := range []int{1, 3, 7, 10} {
			var active, history []string
			for page := (issuer.Page{Limit: size}); ; {
				got := ids(s.active(s.now, page))
				if len(got) > size {
					s.Fatalf("a page has %d items, with a limit of %d", len(got), size)
				}
				active = append(active, got...)
				if len(got) < size {
					break
				}
				page.Before = got[len(got)-1]
			}
			for page := (issuer.Page{Limit: size}); ; {
				got := s.history(page)
				for i := range got {
					history = append(history, got[i].ID)
				}
				if len(got) < size {
					break
				}
				page.Before = got[len(got)-1].ID
			}
			s.sameIDs("active", active, want)
			s.sameIDs("history", history, want)
		}
	}},
	{"Active sorts session ids by bytes and not by the database's collation", func(s *suite) {
		// In byte order, "-" < "B" < "_" < "a". Most collations sort "a" < "B" < "c".
		order := []string{"-x", "0x", "Bx", "_x", "ax", "cx"}
		for _, id := range []string{"ax", "Bx", "_x", "cx", "0x", "-x"} {
			start := s.login(s.now)
			start.ID, start.RefreshFamily = id, family(id)
			_, _, err := s.Start(s.ctx, start)
			s.ok(err)
		}
		slices.Reverse(order)
		s.sameIDs("all sessions", ids(s.active(s.now, issuer.Page{})), order)
		s.sameIDs("before ax", ids(s.active(s.now, issuer.Page{Before: "ax"})), order[2:])
	}},
	{"History returns active, ended, expired and failed logins in one list", func(s *suite) {
		list := s.starts(2)
		_, _, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(s.now, issuer.ReasonLogout))
		s.ok(err)
		client := issuer.Client{IP: "192.0.2.1", UserAgent: "agent", Device: "device"}
		failedAt := s.now.Add(500 * time.Millisecond)
		failed := issuer.NewTimedID(failedAt)
		s.ok(s.Fail(s.ctx, s.subject, failed, "wrong_password", client, failedAt))
		s.ok(s.Fail(s.ctx, s.otherUser(), issuer.NewTimedID(failedAt), "wrong_password", client, failedAt))

		got := s.history(issuer.Page{})
		if len(got) != 3 {
			s.Fatalf("History returned %d logins, want 3: %+v", len(got), got)
		}
		s.same("newest", got[0].Session, list[1])
		want := issuer.Login{Failed: true, Session: issuer.Session{ID: failed, Client: client, CreatedAt: failedAt, EndReason: "wrong_password"}}
		if got[1] != want {
			s.Errorf("the failed login:\n got %+v\nwant %+v", got[1], want)
		}
		late := s.now.Add(maxTTL)
		for i, status := range []issuer.Status{issuer.StatusExpired, issuer.StatusFailed, issuer.StatusLoggedOut} {
			if got[i].StatusAt(late) != status {
				s.Errorf("login %d has the status %q after maxTTL, want %q", i, got[i].StatusAt(late), status)
			}
		}
		if page := s.history(issuer.Page{Limit: 2}); len(page) != 2 || page[1].ID != failed {
			s.Errorf("the page of two logins: %+v", page)
		}
		if page := s.history(issuer.Page{Before: failed}); len(page) != 1 || page[0].ID != list[0].ID {
			s.Errorf("the page after the failed login: %+v", page)
		}
	}},
	{"Active and History return nothing for an unknown subject", func(s *suite) {
		logins, err := s.History(s.ctx, "nobody", issuer.Page{})
		s.ok(err)
		active, err := s.Active(s.ctx, "nobody", s.now, issuer.Page{})
		s.ok(err)
		if len(logins)+len(active) != 0 {
			s.Errorf("logins %v, active %v, want none", logins, active)
		}
	}},
}
