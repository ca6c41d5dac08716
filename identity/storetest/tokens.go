package storetest

import (
	"slices"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity"
)

var tokenTests = []test{
	{"TokenUser finds the user until the token expires, and only for the token's purpose", func(s *suite) {
		for _, u := range []identity.User{s.newUser(), s.pending()} {
			s.create(u)
			token := s.issue(u.ID, identity.PurposeConfirm)
			expiry := s.now.Add(time.Hour)
			got, err := s.TokenUser(s.ctx, identity.PurposeConfirm, token, expiry.Add(-time.Microsecond))
			s.ok(err)
			s.same("the token's user", got, u)
			_, err = s.TokenUser(s.ctx, identity.PurposeConfirm, token, expiry)
			s.want(err, identity.ErrInvalidToken)
			_, err = s.TokenUser(s.ctx, identity.PurposeReset, token, s.now)
			s.want(err, identity.ErrInvalidToken)
			_, err = s.TokenUser(s.ctx, identity.PurposeConfirm, newHash(), s.now)
			s.want(err, identity.ErrInvalidToken)
		}
	}},
	{"a new token replaces only the same user's token for the same purpose", func(s *suite) {
		u, other := s.added(), s.added()
		old, verify, stranger := s.issue(u.ID, identity.PurposeReset), s.issue(u.ID, identity.PurposeConfirm), s.issue(other.ID, identity.PurposeReset)
		token := s.issue(u.ID, identity.PurposeReset)
		_, err := s.TokenUser(s.ctx, identity.PurposeReset, old, s.now)
		s.want(err, identity.ErrInvalidToken)
		for hash, purpose := range map[identity.TokenHash]identity.Purpose{
			token: identity.PurposeReset, verify: identity.PurposeConfirm, stranger: identity.PurposeReset,
		} {
			_, err := s.TokenUser(s.ctx, purpose, hash, s.now)
			s.ok(err)
		}
	}},
	{"only one of many concurrently issued tokens for one user is valid", func(s *suite) {
		u := s.added()
		hashes := make([]identity.TokenHash, 20)
		s.together(len(hashes), func(i int) {
			hashes[i] = newHash()
			if err := s.IssueToken(s.ctx, u.ID, u.Email, identity.PurposeReset, hashes[i], s.now.Add(time.Hour), s.now); err != nil {
				s.Error(err)
			}
		})
		valid := 0
		for _, hash := range hashes {
			if _, err := s.TokenUser(s.ctx, identity.PurposeReset, hash, s.now); err == nil {
				valid++
			}
		}
		if valid != 1 {
			s.Errorf("%d tokens are valid, want 1", valid)
		}
	}},
	{"IssueToken returns ErrNotFound for an unknown user", func(s *suite) {
		s.want(s.IssueToken(s.ctx, "nobody", "nobody@example.org", identity.PurposeReset, newHash(), s.now.Add(time.Hour), s.now), identity.ErrNotFound)
	}},
	{"IssueToken for an address that the user does not have is refused and keeps the earlier token", func(s *suite) {
		u, other := s.added(), s.added()
		for _, purpose := range []identity.Purpose{identity.PurposeReset, identity.PurposeConfirm} {
			token := s.issue(u.ID, purpose)
			for _, to := range []string{other.Email, "old." + u.Email, "", "\xff"} {
				s.want(s.IssueToken(s.ctx, u.ID, to, purpose, newHash(), s.now.Add(time.Hour), s.now), identity.ErrNotFound)
			}
			_, err := s.TokenUser(s.ctx, purpose, token, s.now)
			s.ok(err)
			s.ok(s.IssueToken(s.ctx, u.ID, strings.ToUpper(u.Email), purpose, newHash(), s.now.Add(time.Hour), s.now))
		}
	}},
	{"ConfirmEmail makes the user active and the email address confirmed", func(s *suite) {
		u := s.create(s.pending())
		if _, err := s.Login(s.ctx, u.ID, 1, s.now); err == nil {
			s.Error("a pending user could log in")
		}
		token := s.issue(u.ID, identity.PurposeConfirm)
		at := s.now.Add(time.Minute)
		s.ok(s.ConfirmEmail(s.ctx, token, false, at))
		u.Status, u.EmailVerifiedAt, u.UpdatedAt = identity.StatusActive, at, at
		s.same("afterwards", s.read(u.ID), u)
		s.login(u.ID, 1)
	}},
	{"ConfirmEmail succeeds for only one of fifty concurrent calls with the same token", func(s *suite) {
		u := s.create(s.pending())
		token := s.issue(u.ID, identity.PurposeConfirm)
		s.once(50, identity.ErrInvalidToken, func() error { return s.ConfirmEmail(s.ctx, token, false, s.now) })
	}},
	{"ConfirmEmail refuses an unknown token, an expired token and a reset token", func(s *suite) {
		u := s.create(s.pending())
		token, reset := s.issue(u.ID, identity.PurposeConfirm), s.issue(u.ID, identity.PurposeReset)
		s.want(s.ConfirmEmail(s.ctx, newHash(), true, s.now), identity.ErrInvalidToken)
		s.want(s.ConfirmEmail(s.ctx, token, true, s.now.Add(time.Hour)), identity.ErrInvalidToken)
		s.want(s.ConfirmEmail(s.ctx, reset, true, s.now), identity.ErrInvalidToken)
		s.same("afterwards", s.read(u.ID), u)
	}},
}

var attemptTests = []test{
	{"stores all fields of a failed login", func(s *suite) {
		u, other := s.added(), s.added()
		first := identity.Attempt{ID: "a" + u.ID, UserID: u.ID, IP: "192.0.2.1", UserAgent: "agent", Device: "device", Reason: "wrong_password", At: s.now}
		second := first
		second.ID, second.At, second.IP, second.Reason = "b"+u.ID, s.now.Add(time.Second), "2001:db8::1", "unverified"
		s.ok(s.RecordAttempt(s.ctx, first))
		s.ok(s.RecordAttempt(s.ctx, second))
		got, err := s.Attempts(s.ctx, u.ID)
		s.ok(err)
		if !slices.Equal(got, []identity.Attempt{second, first}) {
			s.Errorf("recorded %+v", got)
		}
		got, err = s.Attempts(s.ctx, other.ID)
		s.ok(err)
		if len(got) != 0 {
			s.Errorf("recorded for another user: %+v", got)
		}
	}},
	{"stores a failed login even if the user agent has bytes that are not valid UTF-8", func(s *suite) {
		u := s.added()
		s.ok(s.RecordAttempt(s.ctx, identity.Attempt{ID: u.ID, UserID: u.ID, UserAgent: "curl\xff/8\x00", Reason: "wrong_password", At: s.now}))
		got, err := s.Attempts(s.ctx, u.ID)
		s.ok(err)
		if len(got) != 1 || !strings.HasPrefix(got[0].UserAgent, "curl") {
			s.Errorf("recorded %+v", got)
		}
	}},
	{"returns ErrNotFound for an unknown user", func(s *suite) {
		s.want(s.RecordAttempt(s.ctx, identity.Attempt{ID: "id", UserID: "nobody", At: s.now}), identity.ErrNotFound)
	}},
}

// contains reports whether a database row contains a text, ignoring upper and lower case.
func contains(row, part string) bool {
	return strings.Contains(strings.ToLower(row), strings.ToLower(part))
}
