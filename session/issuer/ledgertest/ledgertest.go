// Package ledgertest has contract tests for implementations of [issuer.Ledger].
package ledgertest

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// Users lets the contract tests add and change users in the ledger's database.
type Users interface {
	// Add creates an active user whose password has version 1.
	Add(ctx context.Context, username string) (subject string, err error)
	// SetPassword raises the password's version by 1 if it is fromVersion, and ends all sessions of
	// the user except the session with the id keep.
	SetPassword(ctx context.Context, subject string, fromVersion int64, keep string, at time.Time) error
	// Delete deletes the user and ends all sessions of the user.
	Delete(ctx context.Context, subject string, at time.Time) error
	// Fail records a failed login of the user.
	Fail(ctx context.Context, subject, id, reason string, client issuer.Client, at time.Time) error
	// Mails returns the kinds of the user's queued mails.
	Mails(ctx context.Context, subject string) ([]string, error)
}

// Run runs every contract test. Each test has its own user. Each group of tests has its own ledger,
// which the function open opens and cleans up.
func Run(t *testing.T, open func(t *testing.T) (issuer.Ledger, Users)) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Start", startTests},
		{"Find", findTests},
		{"Active and History", listTests},
		{"Rotate", rotateTests},
		{"Reauthenticate", reauthenticateTests},
		{"Touch", touchTests},
		{"Revoke", revokeTests},
		{"RevokeAll", revokeAllTests},
		{"RevokeToken", revokeTokenTests},
		{"DueRevocations", dueTests},
		{"concurrent DueRevocations", parallelDueTests},
		{"malformed text", textTests},
		{"concurrent calls", raceTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			ledger, users := open(t)
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					test.run(newSuite(t, ledger, users))
				})
			}
		})
	}
}

type test struct {
	name string // states the behavior that every ledger must have
	run  func(s *suite)
}

// suite is one test with its ledger and user. Its helper methods end the test if the ledger returns
// an error.
type suite struct {
	*testing.T
	issuer.Ledger
	Users

	ctx      context.Context
	username string
	subject  string
	now      time.Time // the time of the first login
}

func newSuite(t *testing.T, ledger issuer.Ledger, users Users) *suite {
	s := &suite{
		T: t, Ledger: ledger, Users: users, ctx: t.Context(), username: "Zoë " + issuer.NewID(),
		// This time has microseconds, so that the tests fail if a ledger drops microseconds.
		now: time.Date(2031, 5, 6, 7, 8, 9, 123456000, time.UTC),
	}
	s.subject = s.add(s.username)
	return s
}

// otherUser adds another user and returns its id.
func (s *suite) otherUser() string { return s.add(issuer.NewID()) }

func (s *suite) add(name string) string {
	s.Helper()
	subject, err := s.Users.Add(s.ctx, name)
	s.ok(err)
	return subject
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// want ends the test unless err is exactly the sentinel error, such as issuer.ErrNotFound. A ledger
// must return sentinel errors as they are, and not wrapped in another error.
func (s *suite) want(err, sentinel error) {
	s.Helper()
	if err != sentinel { //nolint:errorlint // a wrapped sentinel error is a fault
		s.Fatalf("got error %v, want exactly %v", err, sentinel)
	}
}

const (
	accessTTL = time.Hour
	idleTTL   = 24 * time.Hour
	maxTTL    = 72 * time.Hour
)

// login returns the parameters of Ledger.Start for a login of the suite's user.
func (s *suite) login(at time.Time) issuer.Start { return loginOf(s.subject, at) }

func loginOf(subject string, at time.Time) issuer.Start {
	id := issuer.NewTimedID(at)
	return issuer.Start{
		ID: id, Subject: subject, TokenID: issuer.NewID(), CredentialVersion: 1,
		Client: issuer.Client{IP: "2001:db8::7", UserAgent: "Mozilla/5.0 …", Device: "Firefox on Linux"},
		AMR:    "pwd", At: at,
		AccessExpiresAt: at.Add(accessTTL), ExpiresAt: at.Add(idleTTL), MaxExpiresAt: at.Add(maxTTL),
		RefreshFamily: family(id), RefreshCurrent: sha256.Sum256([]byte(id + " 0")),
	}
}

// family returns the refresh family of a test session. It identifies all refresh tokens of the
// session.
func family(id string) issuer.Hash { return sha256.Sum256([]byte(id)) }

// start starts a session of the suite's user.
func (s *suite) start(at time.Time) issuer.Session {
	s.Helper()
	started, _, err := s.Start(s.ctx, s.login(at))
	s.ok(err)
	return started
}

// starts starts n sessions of the suite's user, a second apart.
func (s *suite) starts(n int) []issuer.Session {
	s.Helper()
	list := make([]issuer.Session, n)
	for i := range list {
		list[i] = s.start(s.now.Add(time.Duration(i) * time.Second))
	}
	return list
}

func (s *suite) find(id string, now time.Time) issuer.Record {
	s.Helper()
	record, err := s.Find(s.ctx, s.subject, id, now)
	s.ok(err)
	return record
}

func (s *suite) active(now time.Time, page issuer.Page) []issuer.Session {
	s.Helper()
	list, err := s.Active(s.ctx, s.subject, now, page)
	s.ok(err)
	return list
}

func (s *suite) history(page issuer.Page) []issuer.Login {
	s.Helper()
	list, err := s.History(s.ctx, s.subject, page)
	s.ok(err)
	return list
}

// due claims all due revocations and returns those of the suite's user.
func (s *suite) due(now time.Time) []issuer.Revocation {
	s.Helper()
	list, err := s.DueRevocations(s.ctx, now, time.Minute, 1000)
	s.ok(err)
	return slices.DeleteFunc(list, func(r issuer.Revocation) bool { return r.Subject != s.subject })
}

// refresh rotates a session's refresh token if the session is active.
func (s *suite) refresh(id string, at time.Time) (issuer.Session, error) {
	rotated, _, err := s.Rotate(s.ctx, family(id), func(r issuer.Rotatable) (issuer.Rotation, error) {
		if r.StatusAt(at) != issuer.StatusActive {
			return issuer.Rotation{}, errEnded
		}
		return rotation(r, at), nil
	})
	return rotated, err
}

var errEnded = errors.New("the session has ended")

// rotation returns a rotation that replaces the session's refresh token.
func rotation(r issuer.Rotatable, at time.Time) issuer.Rotation {
	return issuer.Rotation{
		TokenID: issuer.NewID(), At: at, AccessExpiresAt: at.Add(accessTTL), ExpiresAt: at.Add(idleTTL),
		Current: sha256.Sum256(r.Current[:]), Previous: r.Current, Sealed: []byte("sealed"), RotatedAt: at,
	}
}

func end(at time.Time, reason issuer.Reason) issuer.Ending {
	return issuer.Ending{At: at, Reason: reason, By: issuer.ByUser}
}

func ids(list []issuer.Session) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].ID
	}
	return out
}

// newestFirst returns the ids of sessions that are sorted from oldest to newest, in reverse order.
func newestFirst(list []issuer.Session) []string {
	out := ids(list)
	slices.Reverse(out)
	return out
}

func (s *suite) sameIDs(what string, got, want []string) {
	s.Helper()
	if !slices.Equal(got, want) {
		s.Errorf("%s: %d sessions %q, want %d %q", what, len(got), got, len(want), want)
	}
}

// same compares all fields of two sessions. It compares times with ==, because all times must be
// UTC.
func (s *suite) same(what string, got, want issuer.Session) {
	s.Helper()
	if got != want {
		s.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// together calls f n times concurrently and waits for all calls.
func (s *suite) together(n int, f func(i int)) {
	// Open n database connections first. Otherwise the calls of f would wait for connections and
	// hardly run at the same time.
	parallel(n, func(int) { _, _ = s.Find(s.ctx, s.subject, "nothing", s.now) })
	parallel(n, f)
}

func parallel(n int, f func(i int)) {
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
