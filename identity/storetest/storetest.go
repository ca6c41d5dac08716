// Package storetest holds an [identity.Store] to the promises of its comments.
package storetest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
)

// Store is what the suite tests: the users and the outbox of one database.
type Store interface {
	identity.Store
	mail.Outbox
}

// Beside is what else there is in the store's database, and a look behind the
// store where it shows too little.
type Beside interface {
	// Login records a login that verified the password of a version.
	Login(ctx context.Context, userID string, passwordVersion int64, at time.Time) (sessionID string, err error)
	// Endings tells of each session of a user why it ended; "" while it goes on.
	Endings(ctx context.Context, userID string) (map[string]string, error)
	// Attempts lists the failed logins that are recorded of a user, newest first.
	Attempts(ctx context.Context, userID string) ([]identity.Attempt, error)
	// Guesses counts the failed logins that are recorded under no user, and their
	// events.
	Guesses(ctx context.Context) (attempts, events int, err error)
	// Revocation tells of a recorded revocation whose sessions ended and which
	// one was kept.
	Revocation(ctx context.Context, id int64) (userID, keep string, err error)
	// Mails lists the mails that are queued for a user, oldest first, and claims none.
	Mails(ctx context.Context, userID string) ([]mail.Envelope, error)
	// Row is all that the store's table of users holds of a user, as text.
	Row(ctx context.Context, userID string) (string, error)
}

// Run runs every test of the suite, each with users of its own. Every group of
// tests has a store to itself, which open makes and cleans up.
func Run(t *testing.T, open func(t *testing.T) (Store, Beside)) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Create", createTests},
		{"Update", updateTests},
		{"passwords", passwordTests},
		{"ResetPassword", resetTests},
		{"Delete", deleteTests},
		{"tokens", tokenTests},
		{"attempts", attemptTests},
		{"retention", retentionTests},
		{"pending", pendingTests},
		{"confirmed", confirmTests},
		{"outbox", outboxTests},
		{"claimers", claimTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			store, beside := open(t)
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					test.run(&suite{T: t, Store: store, Beside: beside, ctx: t.Context(), now: at})
				})
			}
		})
	}
}

type test struct {
	name string // the promise, as a sentence
	run  func(s *suite)
}

// suite is a store, and shorthands that fail the test.
type suite struct {
	*testing.T
	Store
	Beside

	ctx context.Context
	now time.Time
}

// at is an instant that shows whether microseconds and UTC survive.
var at = time.Date(2031, 5, 6, 7, 8, 9, 123456000, time.UTC)

const day = 24 * time.Hour

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// want fails the test unless err is exactly the sentinel: answers are returned as
// they are, so that callers may compare as they like.
func (s *suite) want(err, sentinel error) {
	s.Helper()
	if err != sentinel { //nolint:errorlint // see above
		s.Fatalf("error %v, want %v itself", err, sentinel)
	}
}

// newUser is an active user with names of its own, not stored yet.
func (s *suite) newUser() identity.User {
	name := "Zoë." + rand.Text()
	return identity.User{
		ID: rand.Text(), Username: name, Email: name + "@Example.org", FirstName: "Zoë", LastName: "Ångström",
		PasswordHash: "hash of " + name, PasswordVersion: 1, Status: identity.StatusActive,
		EmailVerifiedAt: s.now.Add(-time.Hour), CreatedAt: s.now, UpdatedAt: s.now,
	}
}

// pending is newUser before its address is confirmed.
func (s *suite) pending() identity.User {
	u := s.newUser()
	u.Status, u.EmailVerifiedAt = identity.StatusPending, time.Time{}
	return u
}

// create stores a user; no pending one is stale.
func (s *suite) create(u identity.User) identity.User {
	s.Helper()
	s.ok(s.Create(s.ctx, u, time.Time{}, nil))
	return u
}

func (s *suite) added() identity.User {
	s.Helper()
	return s.create(s.newUser())
}

func (s *suite) read(id string) identity.User {
	s.Helper()
	u, err := s.ByID(s.ctx, id)
	s.ok(err)
	return u
}

func (s *suite) same(what string, got, want identity.User) {
	s.Helper()
	if got != want {
		s.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func (s *suite) login(userID string, version int64) string {
	s.Helper()
	id, err := s.Login(s.ctx, userID, version, s.now)
	s.ok(err)
	return id
}

// ended checks why each of a user's sessions ended.
func (s *suite) ended(userID string, want map[string]string) {
	s.Helper()
	got, err := s.Endings(s.ctx, userID)
	s.ok(err)
	for id, reason := range want {
		if found, ok := got[id]; !ok || found != reason {
			s.Errorf("session %s ended by %q (recorded: %v), want %q", id, found, ok, reason)
		}
	}
}

// revoked checks a revocation that was returned.
func (s *suite) revoked(revocation int64, userID, keep string) {
	s.Helper()
	gotUser, gotKeep, err := s.Revocation(s.ctx, revocation)
	s.ok(err)
	if gotUser != userID || gotKeep != keep {
		s.Errorf("revocation %d is of %q and keeps %q, want %q and %q", revocation, gotUser, gotKeep, userID, keep)
	}
}

// queued checks the kinds of the mails that are queued for a user.
func (s *suite) queued(userID string, kinds ...mail.Kind) {
	s.Helper()
	mails, err := s.Mails(s.ctx, userID)
	s.ok(err)
	var got []mail.Kind
	for _, m := range mails {
		got = append(got, m.Kind)
	}
	if !slices.Equal(got, kinds) {
		s.Errorf("queued mails %q, want %q", got, kinds)
	}
}

func mailTo(u identity.User, kind mail.Kind) mail.Envelope {
	return mail.Envelope{Kind: kind, UserID: u.ID, To: u.Email, Name: u.FirstName}
}

// issue stores a new token for a user that lasts an hour.
func (s *suite) issue(userID string, purpose identity.Purpose) identity.TokenHash {
	s.Helper()
	hash := newHash()
	s.ok(s.IssueToken(s.ctx, userID, s.read(userID).Email, purpose, hash, s.now.Add(time.Hour), s.now))
	return hash
}

func newHash() identity.TokenHash { return sha256.Sum256([]byte(rand.Text())) }

// together runs f n times at once and waits.
func (s *suite) together(n int, f func(i int)) {
	// Connections are open before the race, or opening them would decide it.
	meet(n, func(int) { _, _ = s.ByID(s.ctx, "nobody") })
	meet(n, f)
}

func meet(n int, f func(i int)) {
	var group sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-gate
			f(i)
		})
	}
	close(gate)
	group.Wait()
}

// once runs f n times at once and checks that it succeeds once, and fails with
// the sentinel otherwise.
func (s *suite) once(n int, sentinel error, f func() error) {
	s.Helper()
	errs := make([]error, n)
	s.together(n, func(i int) { errs[i] = f() })
	succeeded := 0
	for _, err := range errs {
		switch {
		case err == nil:
			succeeded++
		case err != sentinel: //nolint:errorlint // answers are returned as they are
			s.Errorf("error %v, want %v", err, sentinel)
		}
	}
	if succeeded != 1 {
		s.Errorf("%d of %d succeeded, want 1", succeeded, n)
	}
}
