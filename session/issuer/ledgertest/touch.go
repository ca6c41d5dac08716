package ledgertest

import (
	"slices"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

var touchTests = []test{
	{"changes LastSeenAt and nothing else", func(s *suite) {
		list := s.starts(2)
		want := list[0]
		want.LastSeenAt = s.now.Add(5*time.Minute + time.Microsecond)
		s.touch(issuer.Use{SessionID: want.ID, At: want.LastSeenAt.In(time.FixedZone("", 3600))})
		s.same("used", s.find(want.ID, s.now).Session, want)
		s.same("not used", s.find(list[1].ID, s.now).Session, list[1])
		s.same("listed", s.active(s.now, issuer.Page{})[1], want)
		if _, err := s.refresh(want.ID, want.LastSeenAt); err != nil {
			s.Errorf("the refresh token no longer works: %v", err)
		}
	}},
	{"changes LastSeenAt of a session at most once a minute", func(s *suite) {
		started := s.start(s.now)
		for _, step := range []struct{ used, seen time.Duration }{
			{time.Second, 0},
			{time.Minute - time.Microsecond, 0},
			{time.Minute, time.Minute},
			{2*time.Minute - time.Microsecond, time.Minute},
			{10 * time.Minute, 10 * time.Minute},
			{10*time.Minute + 59*time.Second, 10 * time.Minute},
		} {
			s.touch(issuer.Use{SessionID: started.ID, At: s.now.Add(step.used)})
			s.wantSeen(started.ID, s.now.Add(step.seen))
		}
	}},
	{"does not change LastSeenAt within a minute after a refresh or a re-authentication", func(s *suite) {
		started := s.start(s.now)
		at := s.now.Add(time.Hour)
		_, err := s.refresh(started.ID, at)
		s.ok(err)
		s.touch(issuer.Use{SessionID: started.ID, At: at.Add(59 * time.Second)})
		s.wantSeen(started.ID, at)
		at = at.Add(time.Hour)
		_, _, err = s.Reauthenticate(s.ctx, s.reauthentication(started.ID, at))
		s.ok(err)
		s.touch(issuer.Use{SessionID: started.ID, At: at.Add(59 * time.Second)})
		s.wantSeen(started.ID, at)
	}},
	{"Touch, Rotate and Reauthenticate never make LastSeenAt earlier", func(s *suite) {
		started := s.start(s.now)
		latest := s.now.Add(time.Hour)
		s.touch(issuer.Use{SessionID: started.ID, At: latest})
		for _, ago := range []time.Duration{time.Microsecond, 2 * time.Minute, 2 * time.Hour} {
			s.touch(issuer.Use{SessionID: started.ID, At: latest.Add(-ago)})
			s.wantSeen(started.ID, latest)
		}
		// Because of a lock, the ledger may record a refresh or a re-authentication after a later
		// use of the session.
		refreshed, err := s.refresh(started.ID, latest.Add(-time.Second))
		s.ok(err)
		again, _, err := s.Reauthenticate(s.ctx, s.reauthentication(started.ID, latest.Add(-time.Second)))
		s.ok(err)
		if refreshed.LastSeenAt != latest || again.LastSeenAt != latest {
			s.Errorf("seen at %v and %v, want %v", refreshed.LastSeenAt, again.LastSeenAt, latest)
		}
		s.wantSeen(started.ID, latest)
	}},
	{"does not change a session that has ended, or that had expired when it was used", func(s *suite) {
		list := s.starts(3)
		ended, _, err := s.Revoke(s.ctx, s.subject, list[0].ID, end(s.now.Add(time.Hour), issuer.ReasonLogout))
		s.ok(err)
		// The first use was before the session ended, but Touch is called after it ended.
		s.touch(issuer.Use{SessionID: ended.ID, At: ended.EndedAt.Add(-time.Microsecond)},
			issuer.Use{SessionID: list[1].ID, At: list[1].ExpiresAt},
			issuer.Use{SessionID: list[2].ID, At: list[2].ExpiresAt.Add(-time.Microsecond)})
		s.same("ended", s.find(ended.ID, s.now).Session, ended)
		s.same("expired", s.find(list[1].ID, s.now).Session, list[1])
		s.wantSeen(list[2].ID, list[2].ExpiresAt.Add(-time.Microsecond))
		_, _, err = s.RevokeAll(s.ctx, s.subject, list[1].ID, end(s.now.Add(time.Hour), issuer.ReasonRevokedOthers))
		s.ok(err)
		at := s.now.Add(2 * time.Hour)
		s.touch(issuer.Use{SessionID: list[1].ID, At: at})
		s.wantSeen(list[1].ID, at) // RevokeAll kept this session, so Touch must not skip it
	}},
	{"accepts an empty list, unknown and malformed session ids, and several uses of one session", func(s *suite) {
		s.touch()
		started := s.start(s.now)
		at := s.now.Add(3 * time.Minute)
		s.touch(issuer.Use{SessionID: "", At: at}, issuer.Use{SessionID: "\xff\xfe", At: at},
			issuer.Use{SessionID: started.ID, At: at.Add(-time.Minute)}, issuer.Use{SessionID: issuer.NewTimedID(s.now), At: at},
			issuer.Use{SessionID: started.ID, At: at}, issuer.Use{SessionID: "a\x00b", At: at},
			issuer.Use{SessionID: started.ID, At: at.Add(-2 * time.Minute)})
		s.wantSeen(started.ID, at)
		s.touch(issuer.Use{SessionID: "a\x00b", At: at})
	}},
	{"accepts a thousand uses with different times and does not change the caller's slice", func(s *suite) {
		const known, unknown = 40, 960
		list := s.starts(known)
		uses := make([]issuer.Use, 0, known+unknown)
		for i, started := range list {
			uses = append(uses, issuer.Use{SessionID: started.ID, At: s.now.Add(time.Hour + time.Duration(i)*time.Microsecond)})
		}
		for range unknown {
			uses = append(uses, issuer.Use{SessionID: issuer.NewTimedID(s.now), At: s.now.Add(time.Hour)})
		}
		slices.SortFunc(uses, func(a, b issuer.Use) int {
			return int(a.SessionID[len(a.SessionID)-1]) - int(b.SessionID[len(b.SessionID)-1])
		})
		given := slices.Clone(uses)
		s.touch(uses...)
		if !slices.Equal(uses, given) {
			s.Error("Touch changed the caller's slice")
		}
		for i, got := range s.active(s.now, issuer.Page{}) {
			want := list[known-1-i]
			want.LastSeenAt = s.now.Add(time.Hour + time.Duration(known-1-i)*time.Microsecond)
			s.same("one of many", got, want)
		}
	}},
}

func (s *suite) touch(uses ...issuer.Use) {
	s.Helper()
	s.ok(s.Touch(s.ctx, uses))
}

// wantSeen checks the LastSeenAt of a session.
func (s *suite) wantSeen(id string, want time.Time) {
	s.Helper()
	if got := s.find(id, s.now).LastSeenAt; got != want {
		s.Errorf("LastSeenAt is %v, want %v", got, want)
	}
}
