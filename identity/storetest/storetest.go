// Package storetest tests that an [identity.Store] and a [mail.Outbox] keep the promises of their comments.
package storetest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"iter"
	"maps"
	"reflect"
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

// Beside gives the suite access to other data in the store's database, such as sessions.
type Beside interface {
	// Login starts a session after a login that verified this version of the password.
	Login(ctx context.Context, userID string, passwordVersion int64, at time.Time) (sessionID string, err error)
	// Endings returns why each session of a user ended, by session id. An active session has "".
	Endings(ctx context.Context, userID string) (map[string]string, error)
	// Attempts returns the recorded failed logins of a user, newest first.
	Attempts(ctx context.Context, userID string) ([]identity.Attempt, error)
	// Guesses counts the recorded failed logins that named no existing user, and their audit events.
	Guesses(ctx context.Context) (attempts, events int, err error)
	// Revocation returns the user whose sessions a revocation ended, and the id of the session it kept.
	Revocation(ctx context.Context, id int64) (userID, keep string, err error)
	// Mails returns the mails that are queued for a user, oldest first, without claiming them.
	Mails(ctx context.Context, userID string) ([]mail.Envelope, error)
	// Row returns everything that the users table holds about a user, as text.
	Row(ctx context.Context, userID string) (string, error)
}

// Run runs every test of the suite. Each test has its own users. Each group of tests has its own store:
// open returns the store and registers its cleanup.
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
		{"confirmation", confirmTests},
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
	name string // the promise that is tested, as a sentence
	run  func(s *suite)
}

// suite is a test with a store, and with helpers that fail the test if something is wrong.
type suite struct {
	*testing.T
	Store
	Beside

	ctx context.Context
	now time.Time
}

// at has microseconds, so a test fails if the store drops them or changes the time zone.
var at = time.Date(2031, 5, 6, 7, 8, 9, 123456000, time.UTC)

const day = 24 * time.Hour

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// want fails the test unless err is exactly the sentinel, such as identity.ErrNotFound. A store must return
// sentinels unwrapped.
func (s *suite) want(err, sentinel error) {
	s.Helper()
	if err != sentinel { //nolint:errorlint // see above
		s.Fatalf("error %v, want %v, unwrapped", err, sentinel)
	}
}

// newUser returns a new active user with unique names. Every text field has a value.
func (s *suite) newUser() identity.User {
	name := "Zoë." + rand.Text()
	u := identity.User{
		ID: rand.Text(), Username: name, Email: name + "@Example.org", FirstName: "Zoë", LastName: "Ångström",
		PasswordHash: "hash of " + name, PasswordVersion: 1, Status: identity.StatusActive,
		EmailVerifiedAt: s.now.Add(-time.Hour), CreatedAt: s.now, UpdatedAt: s.now,
	}
	for field, value := range personalTexts(&u) {
		if value.String() == "" {
			value.SetString(field + " of " + name)
		}
	}
	return u
}

// personalTexts yields the name and value of each text field of a user that a deletion must erase.
func personalTexts(u *identity.User) iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) {
		for _, f := range reflect.VisibleFields(reflect.TypeFor[identity.User]()) {
			if f.Type.Kind() != reflect.String || f.Name == "ID" || f.Name == "Status" {
				continue
			}
			if !yield(f.Name, reflect.ValueOf(u).Elem().FieldByIndex(f.Index)) {
				return
			}
		}
	}
}

// pending returns a new user whose email address is not confirmed.
func (s *suite) pending() identity.User {
	u := s.newUser()
	u.Status, u.EmailVerifiedAt = identity.StatusPending, time.Time{}
	return u
}

// create adds a user. The store must not remove any pending user.
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
	gotTexts := maps.Collect(personalTexts(&got))
	for field, value := range personalTexts(&want) {
		if g := gotTexts[field].String(); g != value.String() {
			s.Errorf("%s: User.%s is %q, want %q", what, field, g, value)
		}
	}
}

func (s *suite) login(userID string, version int64) string {
	s.Helper()
	id, err := s.Login(s.ctx, userID, version, s.now)
	s.ok(err)
	return id
}

// ended checks why a user's sessions ended. want has the reason by session id, "" for an active session.
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

// revoked checks whose sessions a revocation ended, and which session it kept.
func (s *suite) revoked(revocation int64, userID, keep string) {
	s.Helper()
	gotUser, gotKeep, err := s.Revocation(s.ctx, revocation)
	s.ok(err)
	if gotUser != userID || gotKeep != keep {
		s.Errorf("revocation %d is for user %q and keeps %q, want %q and %q", revocation, gotUser, gotKeep, userID, keep)
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

// issue stores a new token for a user, which expires in an hour.
func (s *suite) issue(userID string, purpose identity.Purpose) identity.TokenHash {
	s.Helper()
	hash := newHash()
	s.ok(s.IssueToken(s.ctx, userID, s.read(userID).Email, purpose, hash, s.now.Add(time.Hour), s.now))
	return hash
}

func newHash() identity.TokenHash { return sha256.Sum256([]byte(rand.Text())) }

// together runs f n times concurrently and waits.
func (s *suite) together(n int, f func(i int)) {
	// Open the database connections first. Otherwise f would wait for them and hardly run concurrently.
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

// once runs f n times concurrently. It checks that f succeeds once and returns the sentinel otherwise.
func (s *suite) once(n int, sentinel error, f func() error) {
	s.Helper()
	errs := make([]error, n)
	s.together(n, func(i int) { errs[i] = f() })
	succeeded := 0
	for _, err := range errs {
		switch {
		case err == nil:
			succeeded++
		case err != sentinel: //nolint:errorlint // sentinels are returned unwrapped
			s.Errorf("error %v, want %v", err, sentinel)
		}
	}
	if succeeded != 1 {
		s.Errorf("%d of %d concurrent calls succeeded, want 1", succeeded, n)
	}
}
