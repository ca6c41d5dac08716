// Package storetest holds a [issuer.Store] to the promises of its comments.
package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// Run runs every test of the suite on a store of its own, which newStore makes
// and cleans up. It takes a little longer than [issuer.LeaseTTL], one of the
// tests being to see a lease expire.
func Run(t *testing.T, newStore func(t *testing.T) issuer.Store) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Look", lookTests},
		{"Lease", leaseTests},
		{"PutBack", putBackTests},
		{"Apply", applyTests},
		{"expiry", expiryTests},
		{"races", raceTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					test.run(newSuite(t, newStore(t)))
				})
			}
		})
	}
}

type test struct {
	name string // the promise, as a sentence
	run  func(s *suite)
}

// suite is one store, a subject that no other test uses, and shorthands.
type suite struct {
	*testing.T
	issuer.Store
	ctx context.Context

	subject string
	until   time.Time // when the newest access tokens expire
}

func newSuite(t *testing.T, store issuer.Store) *suite {
	return &suite{
		T: t, Store: store, ctx: t.Context(),
		subject: issuer.NewID(),
		until:   time.Now().Add(time.Hour),
	}
}

// ref names a token of a new session of the subject.
func (s *suite) ref() session.Ref {
	return session.Ref{Subject: s.subject, SessionID: issuer.NewTimedID(time.Now()), TokenID: issuer.NewID()}
}

// active is what the ledger says of an active session of a generation, which is
// the subject's as well.
func (s *suite) active(generation int64) issuer.Snapshot {
	return issuer.Snapshot{
		Entry:             session.Entry{Generation: generation, ExpiresAt: s.until.Add(time.Hour).UTC().Truncate(time.Second)},
		Until:             s.until,
		SubjectGeneration: generation,
		SubjectUntil:      s.until,
	}
}

func (s *suite) ended(generation int64) issuer.Snapshot {
	fill := s.active(generation)
	fill.Entry = session.Entry{Ended: true}
	return fill
}

// The three kinds of revocation.

func (s *suite) endOf(ref session.Ref) issuer.Revocation {
	return issuer.Revocation{Subject: ref.Subject, SessionID: ref.SessionID, Until: s.until}
}

func (s *suite) endOfToken(ref session.Ref) issuer.Revocation {
	return issuer.Revocation{Subject: ref.Subject, SessionID: ref.SessionID, TokenID: ref.TokenID, Until: s.until}
}

func (s *suite) endOfAll(generation int64, keep string) issuer.Revocation {
	return issuer.Revocation{Subject: s.subject, Generation: generation, Keep: keep, Until: s.until}
}

// The methods of the store, where an error ends the test.

func (s *suite) look(ref session.Ref) session.Lookup {
	s.Helper()
	view, err := s.Look(s.ctx, ref)
	if err != nil {
		s.Fatalf("Look: %v", err)
	}
	return view
}

func (s *suite) tryLease(subject string) (lease string, ok bool) {
	s.Helper()
	lease, ok, err := s.Lease(s.ctx, subject)
	if err != nil {
		s.Fatalf("Lease: %v", err)
	}
	return lease, ok
}

func (s *suite) lease() string {
	s.Helper()
	lease, ok := s.tryLease(s.subject)
	if !ok {
		s.Fatal("Lease: another holds it")
	}
	return lease
}

func (s *suite) putBack(lease string, ref session.Ref, fill issuer.Snapshot) (done bool) {
	s.Helper()
	done, err := s.Backfill(s.ctx, lease, ref, fill)
	if err != nil {
		s.Fatalf("PutBack: %v", err)
	}
	return done
}

func (s *suite) apply(r issuer.Revocation) {
	s.Helper()
	if err := s.Apply(s.ctx, r); err != nil {
		s.Fatalf("Apply %+v: %v", r, err)
	}
}

// fill puts back under a lease of its own, as a check does.
func (s *suite) fill(ref session.Ref, fill issuer.Snapshot) {
	s.Helper()
	if !s.putBack(s.lease(), ref, fill) {
		s.Fatalf("PutBack under a fresh lease was refused: %+v", fill)
	}
}

// What a Look has to show.

func (s *suite) wantNothing(ref session.Ref) {
	s.Helper()
	if v := s.look(ref); v.HasEntry || v.HasGeneration || v.TokenRevoked {
		s.Errorf("Look = %+v, want nothing", v)
	}
}

func (s *suite) wantEntry(ref session.Ref, want session.Entry) {
	s.Helper()
	if v := s.look(ref); !v.HasEntry || !equal(v.Entry, want) {
		s.Errorf("Look = %+v, want the entry %+v", v, want)
	}
}

func (s *suite) wantNoEntry(ref session.Ref) {
	s.Helper()
	if v := s.look(ref); v.HasEntry {
		s.Errorf("Look = %+v, want no entry", v)
	}
}

func (s *suite) wantEnded(ref session.Ref) {
	s.Helper()
	if v := s.look(ref); !v.HasEntry || !v.Entry.Ended {
		s.Errorf("Look = %+v, want an ended entry", v)
	}
}

func (s *suite) wantGeneration(want int64) {
	s.Helper()
	if v := s.look(s.ref()); !v.HasGeneration || v.Generation != want {
		s.Errorf("Look = %+v, want the generation %d", v, want)
	}
}

func (s *suite) wantBlacklisted(ref session.Ref, want bool) {
	s.Helper()
	if v := s.look(ref); v.TokenRevoked != want {
		s.Errorf("Look = %+v, want blacklisted %t", v, want)
	}
}

func equal(a, b session.Entry) bool {
	return a.Ended == b.Ended && a.Generation == b.Generation && a.ExpiresAt.Equal(b.ExpiresAt) &&
		slices.Equal(a.RevokedTokens, b.RevokedTokens)
}

// eventually waits for what only time brings about.
func (s *suite) eventually(within time.Duration, what string, done func() bool) {
	s.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); !done(); {
		if time.Now().After(deadline) {
			s.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
}

var lookTests = []test{
	{"of a token it never heard of, it knows nothing", func(s *suite) {
		s.wantNothing(s.ref())
	}},
	{"what was put back is what a look shows, and nothing of it is lost", func(s *suite) {
		for _, entry := range []session.Entry{
			{Generation: 1, ExpiresAt: s.until.Truncate(time.Second)},
			{Generation: 0, ExpiresAt: s.until.Truncate(time.Second)},
			{Generation: 1 << 40, ExpiresAt: time.Date(2999, 12, 31, 23, 59, 59, 0, time.UTC)},
			{Generation: 1, ExpiresAt: s.until.Truncate(time.Second), RevokedTokens: []string{issuer.NewID()}},
			// Ids of another make than ours are kept as they are.
			{Generation: 1, ExpiresAt: s.until.Truncate(time.Second), RevokedTokens: []string{
				issuer.NewID(), "short", "", "AAAAAAAAAAAAAAAAAAAAAB", "naïve \x00\xff id", issuer.NewTimedID(s.until), issuer.NewID(),
			}},
		} {
			s.subject = issuer.NewID()
			ref := s.ref()
			fill := s.active(entry.Generation)
			fill.Entry = entry
			s.fill(ref, fill)
			s.wantEntry(ref, entry)
			s.wantGeneration(entry.Generation)
			s.wantBlacklisted(ref, false)
		}
	}},
	{"an ended session can be put back too", func(s *suite) {
		ref := s.ref()
		s.fill(ref, s.ended(3))
		s.wantEnded(ref)
		s.wantGeneration(3)
	}},
	{"subjects, sessions and tokens are told apart", func(s *suite) {
		one, other := s.ref(), s.ref()
		s.fill(one, s.active(1))
		s.apply(s.endOfToken(session.Ref{Subject: s.subject, SessionID: other.SessionID, TokenID: other.TokenID}))
		s.wantNoEntry(other)
		s.wantBlacklisted(one, false)

		// The same ids under another subject are another session's.
		stranger := one
		stranger.Subject = issuer.NewID()
		s.wantNothing(stranger)
		s.apply(s.endOf(stranger))
		s.wantEntry(one, s.active(1).Entry)
	}},
	{"without an answer it is unavailable", func(s *suite) {
		ref := s.ref()
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		_, look := s.Look(ctx, ref)
		_, _, lease := s.Lease(ctx, ref.Subject)
		done, putBack := s.Backfill(ctx, "lease", ref, s.active(1))
		if done {
			s.Error("PutBack was done without an answer")
		}
		for method, err := range map[string]error{
			"Look": look, "Lease": lease, "PutBack": putBack, "Apply": s.Apply(ctx, s.endOf(ref)), "Ping": s.Store.Ping(ctx),
		} {
			if !errors.Is(err, session.ErrUnavailable) {
				s.Errorf("%s = %v, want ErrUnavailable", method, err)
			}
		}
	}},
	{"it answers a ping", func(s *suite) {
		if err := s.Ping(s.ctx); err != nil {
			s.Error(err)
		}
	}},
}
