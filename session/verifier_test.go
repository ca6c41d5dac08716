package session

import (
	"errors"
	"testing"
	"time"
)

func TestJudgeView(t *testing.T) {
	now := issuedAt
	live := Entry{Generation: 3, ExpiresAt: now.Add(time.Hour)}
	for _, c := range []struct {
		name string
		view View
		want answer
	}{
		{"nothing is known", View{}, unknown},
		{"entry and generation agree", View{HasEntry: true, HasGeneration: true, Generation: 3, Entry: live}, active},
		// End-others moves the kept session on before the reader's generation is renewed.
		{"entry is ahead of the generation", View{HasEntry: true, HasGeneration: true, Generation: 2, Entry: live}, active},
		{"all sessions of this generation were ended", View{HasEntry: true, HasGeneration: true, Generation: 4, Entry: live}, revoked},
		// An evicted generation must not revive what it had ended.
		{"generation was lost", View{HasEntry: true, Entry: live}, unknown},
		{"entry was lost", View{HasGeneration: true, Generation: 3}, unknown},
		{"session ended", View{HasEntry: true, Entry: Entry{Ended: true}}, revoked},
		{"token on the blacklist", View{HasEntry: true, HasGeneration: true, Generation: 3, Entry: live, Blacklisted: true}, revoked},
		{"token on the blacklist, all else lost", View{Blacklisted: true}, revoked},
		// The blacklist entry may be evicted before the session's.
		{"token listed in the entry", View{
			HasEntry: true, HasGeneration: true, Generation: 3,
			Entry: Entry{Generation: 3, ExpiresAt: now.Add(time.Hour), RevokedTokens: []string{"other", "jti"}},
		}, revoked},
		{"another token listed in the entry", View{
			HasEntry: true, HasGeneration: true, Generation: 3,
			Entry: Entry{Generation: 3, ExpiresAt: now.Add(time.Hour), RevokedTokens: []string{"other"}},
		}, active},
		// A refresh prolongs the session without telling the store.
		{"session has expired as far as the store knows", View{
			HasEntry: true, HasGeneration: true, Generation: 3, Entry: Entry{Generation: 3, ExpiresAt: now},
		}, unknown},
	} {
		if got := c.view.judge("jti", now); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestJudgeRecord(t *testing.T) {
	now := issuedAt
	live := Session{Generation: 3, ExpiresAt: now.Add(time.Hour), MaxExpiresAt: now.Add(2 * time.Hour), AccessExpiresAt: now.Add(time.Minute)}
	ended := live
	ended.EndedAt, ended.EndReason = now, ReasonRevoked
	expired := live
	expired.ExpiresAt = now
	for _, c := range []struct {
		name   string
		record Record
		want   error
		kept   bool // the store may keep it
	}{
		{"active", Record{Session: live, SubjectGeneration: 3}, nil, true},
		{"ended", Record{Session: ended, SubjectGeneration: 3}, ErrRevoked, true},
		// A refresh that is being committed may still prolong it.
		{"expired", Record{Session: expired, SubjectGeneration: 3}, ErrInvalidToken, false},
		{"its token was revoked", Record{Session: live, SubjectGeneration: 3, RevokedTokens: []string{"jti"}}, ErrRevoked, true},
		{"below its subject's generation", Record{Session: live, SubjectGeneration: 4}, ErrRevoked, true},
	} {
		if err := c.record.judge("jti", now); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		fill, ok := c.record.fill(now)
		if ok != c.kept || ok && (fill.SubjectGeneration != c.record.SubjectGeneration || fill.Entry.Ended != !c.record.EndedAt.IsZero()) {
			t.Errorf("%s: fill %+v %v", c.name, fill, ok)
		}
	}
}

func TestSessionStatus(t *testing.T) {
	now := issuedAt
	base := Session{ExpiresAt: now.Add(time.Hour), MaxExpiresAt: now.Add(2 * time.Hour)}
	with := func(f func(*Session)) Session { s := base; f(&s); return s }
	for _, c := range []struct {
		name    string
		session Session
		status  Status
		reason  Reason
		by      Actor
	}{
		{"running", base, StatusActive, "", ""},
		{"at its last moment", with(func(s *Session) { s.ExpiresAt = now.Add(time.Nanosecond) }), StatusActive, "", ""},
		{"idle, at the second", with(func(s *Session) { s.ExpiresAt = now }), StatusExpired, ReasonIdle, BySystem},
		{"at its absolute end", with(func(s *Session) { s.ExpiresAt, s.MaxExpiresAt = now, now }), StatusExpired, ReasonMaxLifetime, BySystem},
		{"signed out", with(func(s *Session) { s.EndedAt, s.EndReason, s.EndedBy = now, ReasonLogout, ByUser }), StatusLoggedOut, ReasonLogout, ByUser},
		{"ended from elsewhere", with(func(s *Session) { s.EndedAt, s.EndReason, s.EndedBy = now, ReasonRevoked, ByUser }), StatusRevoked, ReasonRevoked, ByUser},
		// What was ended before it would have expired stays "ended".
		{"ended, and past its expiry", with(func(s *Session) {
			s.EndedAt, s.EndReason, s.EndedBy, s.ExpiresAt = now.Add(-time.Hour), ReasonTokenTheft, BySystem, now
		}), StatusRevoked, ReasonTokenTheft, BySystem},
	} {
		end := c.session.Ending(now)
		if got := c.session.StatusAt(now); got != c.status || end.Reason != c.reason || end.By != c.by {
			t.Errorf("%s: %s %+v, want %s %s %s", c.name, got, end, c.status, c.reason, c.by)
		}
	}
}

func TestRefreshTokens(t *testing.T) {
	parent := newRefreshToken()
	next := parent.successor()
	if next.family() != parent.family() || next.hash() == parent.hash() {
		t.Error("a successor is of its parent's family, and another token")
	}
	read, ok := parseRefreshToken(next.String())
	if !ok || read != next {
		t.Error("a token does not survive being written and read")
	}
	sealed, err := parent.seal(next)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := parent.open(sealed); err != nil || opened != next {
		t.Errorf("the parent does not open what it sealed: %v", err)
	}
	// Who has the family's secret but not the parent must not get at the successor.
	if _, err := next.open(sealed); err == nil {
		t.Error("another token of the family opens it")
	}
	for _, text := range []string{"", "x", next.String() + "=", next.String()[1:], next.String() + "A"} {
		if _, ok := parseRefreshToken(text); ok {
			t.Errorf("%q was taken for a refresh token", text)
		}
	}
}
