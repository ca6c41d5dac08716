// Package storetest has contract tests for implementations of [identity.Store] and [mail.Outbox].
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

// Store is a database of users and queued mails that the contract tests check.
type Store interface {
	identity.Store
	mail.Outbox
}

// Beside gives the contract tests access to other data in the store's database, such as sessions.
type Beside interface {
	// Login starts a session for a login that verified the password with the given passwordVersion.
	Login(ctx context.Context, userID string, passwordVersion int64, at time.Time) (sessionID string, err error)
	// Endings returns why each session of a user ended, by session id. The reason is "" if the session
	// is active.
	Endings(ctx context.Context, userID string) (map[string]string, error)
	// Attempts returns the recorded failed logins of a user, newest first.
	Attempts(ctx context.Context, userID string) ([]identity.Attempt, error)
	// Revocation returns whose sessions a revocation ended, and the id of the session that it left active.
	Revocation(ctx context.Context, id int64) (userID, keep string, err error)
	// Mails returns the mails that are queued for a user, oldest first, without claiming them.
	Mails(ctx context.Context, userID string) ([]mail.Envelope, error)
	// Row returns everything that the users table holds about a user, as text.
	Row(ctx context.Context, userID string) (string, error)
}

// Run runs every contract test. Each test has its own users. Each group of tests has its own store,
// which open returns and cleans up.
func Run(t *testing.T, open func(t *testing.T) (Store, Beside)) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Create", createTests},
		{"Update", updateTests},
		{"SetAttributes", attributeTests},
		{"passwords", passwordTests},
		{"ResetPassword", resetTests},
		{"Delete", deleteTests},
		{"mailed tokens", tokenTests},
		{"RecordAttempt", attemptTests},
		{"ForgetPending", pendingTests},
		{"ForgetPending during ConfirmEmail", confirmTests},
		{"ConfirmEmail", claimedTests},
		{"UndoEmailChange", undoTests},
		{"ForgetUndos", forgetUndoTests},
		{"DueMail", outboxTests},
		{"concurrent DueMail", claimTests},
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
	name string // the behavior that every store must have, as a sentence
	run  func(s *suite)
}

// suite is one test with its store. Its helper methods fail the test if the store returns an
// unexpected result.
type suite struct {
	*testing.T
	Store
	Beside

	ctx context.Context
	now time.Time
}

// at is the time of the tests. It has microseconds, so that a test fails if a store drops them.
var at = time.Date(2031, 5, 6, 7, 8, 9, 123456000, time.UTC)

const day = 24 * time.Hour

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// want fails the test unless err is exactly the given error, such as identity.ErrNotFound. A store must
// return its errors unwrapped.
func (s *suite) want(err, sentinel error) {
	s.Helper()
	if err != sentinel { //nolint:errorlint // a store must return its errors unwrapped
		s.Fatalf("error %v, want %v, unwrapped", err, sentinel)
	}
}

// newUser returns a new active user with unique names. Every text field except PendingEmail has a value.
func (s *suite) newUser() identity.User {
	name := "Zoë." + rand.Text()
	u := identity.User{
		ID: rand.Text(), Username: name, Email: name + "@Example.org", FirstName: "Zoë", LastName: "Ångström",
		PasswordHash: "hash of " + name, PasswordVersion: 1, Status: identity.StatusActive,
		EmailVerifiedAt: s.now.Add(-time.Hour), CreatedAt: s.now, UpdatedAt: s.now,
	}
	for field, value := range personalTexts(&u) {
		if value.String() == "" && field != "PendingEmail" {
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

// create calls Create so that it removes no expired registrations.
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

// ended checks why a user's sessions ended. The parameter want maps the id of each session to the expected
// reason, or to "" if the session must be active.
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

// revoked checks whose sessions a revocation ended, and which session it left active.
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
	return mail.Envelope{Kind: kind, UserID: u.ID, To: u.Email}
}

// issue stores a new mailed token for a user. The token expires in an hour.
func (s *suite) issue(userID string, purpose identity.Purpose) identity.TokenHash {
	s.Helper()
	return s.issueTo(userID, s.read(userID).Email, purpose)
}

// issueTo is like issue, for a token that is mailed to the given address.
func (s *suite) issueTo(userID, to string, purpose identity.Purpose) identity.TokenHash {
	s.Helper()
	hash := newHash()
	s.ok(s.IssueToken(s.ctx, userID, to, purpose, hash, s.now.Add(time.Hour), s.now))
	return hash
}

func newHash() identity.TokenHash { return sha256.Sum256([]byte(rand.Text())) }

// together calls f n times concurrently and waits for all calls.
func (s *suite) together(n int, f func(i int)) {
	// Open the database connections first. Otherwise f would wait for them and hardly run
	// concurrently.
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

// once calls f n times concurrently. It checks that one call succeeds and that all others return the error
// sentinel.
func (s *suite) once(n int, sentinel error, f func() error) {
	s.Helper()
	errs := make([]error, n)
	s.together(n, func(i int) { errs[i] = f() })
	succeeded := 0
	for _, err := range errs {
		switch {
		case err == nil:
			succeeded++
		case err != sentinel: //nolint:errorlint // a store must return its errors unwrapped
			s.Errorf("error %v, want %v", err, sentinel)
		}
	}
	if succeeded != 1 {
		s.Errorf("%d of %d concurrent calls succeeded, want 1", succeeded, n)
	}
}
