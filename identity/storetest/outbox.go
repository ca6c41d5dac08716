package storetest

import (
	"slices"
	"sync"
	"time"

	"github.com/sessiond/sessiond/identity/mail"
)

// The test of DueMail needs its own store, because DueMail returns the mails of all users.
var outboxTests = []test{
	{"returns mails again after each lease until MailDone is called, oldest mail first", func(s *suite) {
		first := mail.Envelope{Kind: mail.KindPasswordReset, UserID: "a", To: "a@example.org"}
		second := mail.Envelope{Kind: mail.KindAddressTaken, To: "b@example.org"}
		s.ok(s.Enqueue(s.ctx, first, s.now))
		s.ok(s.Enqueue(s.ctx, second, s.now.Add(time.Second)))
		claim := func(now time.Time, limit int) []mail.Envelope {
			s.Helper()
			mails, err := s.DueMail(s.ctx, now, time.Minute, limit)
			s.ok(err)
			return mails
		}
		want := func(what string, got []mail.Envelope, want ...mail.Envelope) {
			s.Helper()
			if !slices.Equal(got, want) {
				s.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
			}
		}
		want("before they were queued", claim(s.now.Add(-time.Microsecond), 10))
		want("with a limit of 0", claim(s.now, 0))

		now := s.now.Add(time.Hour)
		got := claim(now, 1)
		if len(got) != 1 || got[0].ID == 0 {
			s.Fatalf("the first: %+v", got)
		}
		first.ID, first.QueuedAt, first.Attempts = got[0].ID, s.now, 1
		want("the first", got, first)
		got = claim(now, 10)
		if len(got) != 1 || got[0].ID == 0 || got[0].ID == first.ID {
			s.Fatalf("the second: %+v", got)
		}
		second.ID, second.QueuedAt, second.Attempts = got[0].ID, s.now.Add(time.Second), 1
		want("the second", got, second)
		want("during the lease", claim(now.Add(time.Minute-time.Microsecond), 10))
		first.Attempts, second.Attempts = 2, 2
		want("after the lease", claim(now.Add(time.Minute), 10), first, second)

		s.ok(s.MailRetry(s.ctx, first.ID, now.Add(2*time.Hour)))
		s.ok(s.MailRetry(s.ctx, second.ID, now.Add(time.Minute)))
		second.Attempts = 3
		want("the mail to retry now", claim(now.Add(time.Minute), 10), second)
		s.ok(s.MailDone(s.ctx, second.ID))
		s.ok(s.MailDone(s.ctx, second.ID))
		s.ok(s.MailRetry(s.ctx, second.ID, now)) // must have no effect, because MailDone removed the mail
		first.Attempts = 3
		want("the mail to retry later", claim(now.Add(2*time.Hour), 10), first)
		s.ok(s.MailDone(s.ctx, first.ID))
		want("when all mails are done", claim(now.Add(100*time.Hour), 10))
	}},
}

var claimTests = []test{
	{"returns each mail to exactly one of many concurrent callers", func(s *suite) {
		const n = 120
		for range n {
			s.ok(s.Enqueue(s.ctx, mail.Envelope{Kind: mail.KindPasswordReset, To: "a@example.org"}, s.now))
		}
		var mu sync.Mutex
		claimed := make(map[int64]int)
		s.together(10, func(int) {
			for {
				mails, err := s.DueMail(s.ctx, s.now, time.Minute, 5)
				if err != nil {
					s.Error(err)
					return
				}
				if len(mails) > 5 {
					s.Errorf("%d mails for a limit of 5", len(mails))
				}
				if len(mails) == 0 {
					return
				}
				mu.Lock()
				for _, m := range mails {
					claimed[m.ID]++
				}
				mu.Unlock()
			}
		})
		if len(claimed) != n {
			s.Errorf("%d of %d mails were claimed", len(claimed), n)
		}
		for id, times := range claimed {
			if times != 1 {
				s.Errorf("mail %d was claimed %d times", id, times)
			}
		}
	}},
}
