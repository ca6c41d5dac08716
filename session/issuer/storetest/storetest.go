// Package storetest has contract tests for implementations of [issuer.Store].
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

// Run runs every contract test on its own store, which newStore opens and cleans up. It takes
// longer than [issuer.LeaseTTL], because one test waits for a lease to expire.
func Run(t *testing.T, newStore func(t *testing.T) issuer.Store) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Look", lookTests},
		{"Lease", leaseTests},
		{"Backfill", backfillTests},
		{"Apply", applyTests},
		{"expiry", expiryTests},
		{"concurrent calls", raceTests},
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
	name string // states the behavior that every store must have
	run  func(s *suite)
}

// suite is one test with its store and a subject (a user) that no other test uses.
type suite struct {
	*testing.T
	issuer.Store
	ctx context.Context

	subject string
	until   time.Time // when the subject's access tokens expire
}

func newSuite(t *testing.T, store issuer.Store) *suite {
	return &suite{
		T: t, Store: store, ctx: t.Context(),
		subject: issuer.NewID(),
		until:   time.Now().Add(time.Hour),
	}
}

// ref returns a reference to an access token of a new session of the subject.
func (s *suite) ref() session.Ref {
	return session.Ref{Subject: s.subject, SessionID: issuer.NewTimedID(time.Now()), TokenID: issuer.NewID()}
}

// active returns the ledger's snapshot of an active session. Session and subject have this
// generation.
func (s *suite) active(generation int64) issuer.Snapshot {
	return issuer.Snapshot{
		Entry:             session.Entry{Generation: generation, ExpiresAt: s.until.Add(time.Hour).UTC().Truncate(time.Second)},
		Until:             s.until,
		SubjectGeneration: generation,
		SubjectUntil:      s.until,
	}
}

func (s *suite) ended(generation int64) issuer.Snapshot {
	snapshot := s.active(generation)
	snapshot.Entry = session.Entry{Ended: true}
	return snapshot
}

func (s *suite) sessionRevocation(ref session.Ref) issuer.Revocation {
	return issuer.Revocation{Subject: ref.Subject, SessionID: ref.SessionID, Until: s.until}
}

func (s *suite) tokenRevocation(ref session.Ref) issuer.Revocation {
	return issuer.Revocation{Subject: ref.Subject, SessionID: ref.SessionID, TokenID: ref.TokenID, Until: s.until}
}

func (s *suite) subjectRevocation(generation int64, keep string) issuer.Revocation {
	return issuer.Revocation{Subject: s.subject, Generation: generation, Keep: keep, Until: s.until}
}

func (s *suite) look(ref session.Ref) session.Lookup {
	s.Helper()
	view, err := s.Look(s.ctx, ref)
	if err != nil {
		s.Fatalf("Look: %v", err)
	}
	return view
}

func (s *suite) tryLease(ref session.Ref) (lease string, ok bool) {
	s.Helper()
	lease, ok, err := s.Lease(s.ctx, ref)
	if err != nil {
		s.Fatalf("Lease: %v", err)
	}
	return lease, ok
}

func (s *suite) lease(ref session.Ref) string {
	s.Helper()
	lease, ok := s.tryLease(ref)
	if !ok {
		s.Fatal("Lease reports that another caller holds the lease")
	}
	return lease
}

func (s *suite) tryBackfill(lease string, ref session.Ref, snapshot issuer.Snapshot) (done bool) {
	s.Helper()
	done, err := s.Backfill(s.ctx, lease, ref, snapshot)
	if err != nil {
		s.Fatalf("Backfill: %v", err)
	}
	return done
}

func (s *suite) apply(r issuer.Revocation) {
	s.Helper()
	servers, err := s.Apply(s.ctx, r)
	if err != nil {
		s.Fatalf("Apply %+v: %v", r, err)
	}
	now, err := s.Servers(s.ctx)
	if err != nil {
		s.Fatalf("Servers: %v", err)
	}
	for _, id := range servers {
		if !slices.ContainsFunc(now, func(s issuer.Server) bool { return s.ID == id }) {
			s.Errorf("Apply = %q, want some of the servers %+v", servers, now)
		}
	}
}

// backfill takes the subject's lease and backfills a session, as a check does if the store does not
// know the session.
func (s *suite) backfill(ref session.Ref, snapshot issuer.Snapshot) {
	s.Helper()
	if !s.tryBackfill(s.lease(ref), ref, snapshot) {
		s.Fatalf("Backfill with a fresh lease was refused: %+v", snapshot)
	}
}

func (s *suite) wantNothing(ref session.Ref) {
	s.Helper()
	if v := s.look(ref); v.HasEntry || v.HasGeneration || v.TokenRevoked {
		s.Errorf("Look = %+v, want no entry, no generation and no revoked token", v)
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

func (s *suite) wantTokenRevoked(ref session.Ref, want bool) {
	s.Helper()
	if v := s.look(ref); v.TokenRevoked != want {
		s.Errorf("Look = %+v, want TokenRevoked %t", v, want)
	}
}

func equal(a, b session.Entry) bool {
	return a.Ended == b.Ended && a.Generation == b.Generation && a.ExpiresAt.Equal(b.ExpiresAt) &&
		slices.Equal(a.RevokedTokens, b.RevokedTokens)
}

// eventually calls done until it returns true. It fails the test if that takes too long.
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
	{"returns no entry and no generation for an unknown session", func(s *suite) {
		s.wantNothing(s.ref())
	}},
	{"returns the backfilled entry and generation unchanged", func(s *suite) {
		for _, entry := range []session.Entry{
			{Generation: 1, ExpiresAt: s.until.Truncate(time.Second)},
			{Generation: 0, ExpiresAt: s.until.Truncate(time.Second)},
			{Generation: 1 << 40, ExpiresAt: time.Date(2999, 12, 31, 23, 59, 59, 0, time.UTC)},
			{Generation: 1, ExpiresAt: s.until.Truncate(time.Second), RevokedTokens: []string{issuer.NewID()}},
			// A store must also keep token ids that do not have the form of issuer.NewID.
			{Generation: 1, ExpiresAt: s.until.Truncate(time.Second), RevokedTokens: []string{
				issuer.NewID(), "short", "", "AAAAAAAAAAAAAAAAAAAAAB", "naïve \x00\xff id", issuer.NewTimedID(s.until), issuer.NewID(),
			}},
		} {
			s.subject = issuer.NewID()
			ref := s.ref()
			snapshot := s.active(entry.Generation)
			snapshot.Entry = entry
			s.backfill(ref, snapshot)
			s.wantEntry(ref, entry)
			s.wantGeneration(entry.Generation)
			s.wantTokenRevoked(ref, false)
		}
	}},
	{"returns an ended session that was backfilled", func(s *suite) {
		ref := s.ref()
		s.backfill(ref, s.ended(3))
		s.wantEnded(ref)
		s.wantGeneration(3)
	}},
	{"a revocation of one token or session does not change other tokens and sessions", func(s *suite) {
		one, other := s.ref(), s.ref()
		s.backfill(one, s.active(1))
		s.apply(s.tokenRevocation(session.Ref{Subject: s.subject, SessionID: other.SessionID, TokenID: other.TokenID}))
		s.wantNoEntry(other)
		s.wantTokenRevoked(one, false)

		// The same session id with another subject is another session.
		foreign := one
		foreign.Subject = issuer.NewID()
		s.wantNothing(foreign)
		s.apply(s.sessionRevocation(foreign))
		s.wantEntry(one, s.active(1).Entry)
	}},
	{"every method returns ErrUnavailable for a canceled context", func(s *suite) {
		ref := s.ref()
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		_, look := s.Look(ctx, ref)
		_, _, lease := s.Lease(ctx, ref)
		done, backfill := s.Backfill(ctx, "lease", ref, s.active(1))
		if done {
			s.Error("Backfill with a canceled context reported success")
		}
		_, apply := s.Apply(ctx, s.sessionRevocation(ref))
		_, servers := s.Servers(ctx)
		for method, err := range map[string]error{
			"Look": look, "Lease": lease, "Backfill": backfill, "Apply": apply, "Ping": s.Store.Ping(ctx), "Servers": servers,
		} {
			if !errors.Is(err, session.ErrUnavailable) {
				s.Errorf("%s = %v, want ErrUnavailable", method, err)
			}
		}
	}},
	{"Ping returns no error if the store works", func(s *suite) {
		if err := s.Ping(s.ctx); err != nil {
			s.Error(err)
		}
	}},
}
