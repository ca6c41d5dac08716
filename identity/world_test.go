package identity_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// world is the environment of a test: a Service and a Postman (the delivery of mail) on a real store, with a
// clock that the test sets and a mail server in memory.
type world struct {
	*identity.Service
	*testing.T
	db      *sqlstore.DB
	store   *sqlstore.Users
	postman *mail.Postman
	mailbox *mailbox
	clock   *clock
	log     *logbook
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db := sqlstoretest.New(t)
	c := &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w := &world{T: t, db: db, store: db.Users(), mailbox: &mailbox{}, clock: c, log: &logbook{}}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.Service = &identity.Service{
		Store: w.store, Hasher: quickHasher(t), Now: c.Now, PasswordMinLength: 8, MailEnabled: true,
		NewID: issuer.NewID, NewTimedID: issuer.NewTimedID, Log: log,
	}
	w.postman = &mail.Postman{
		Outbox: w.store, Clerk: w, Mailer: w.mailbox, Now: c.Now, PublicURL: "https://auth.example.com/app", Log: log,
	}
	return w
}

func quickHasher(t *testing.T, peppers ...hashing.Pepper) *hashing.Hasher {
	t.Helper()
	h, err := hashing.NewInsecureHasher(4, peppers)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// mailbox is a mail server that accepts every message unless fail returns an error.
type mailbox struct {
	mu   sync.Mutex
	got  []mail.Message
	fail func(mail.Message) error
	hook func() // if not nil, called after each message
}

func (m *mailbox) Send(_ context.Context, msg mail.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(msg); err != nil {
			return err
		}
	}
	m.got = append(m.got, msg)
	if m.hook != nil {
		m.hook()
	}
	return nil
}

func (m *mailbox) refuseWith(fail func(mail.Message) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

// take empties the mailbox and returns its messages.
func (m *mailbox) take() []mail.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.got
	m.got = nil
	return got
}

// logbook collects the text of a log.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const (
	password      = "correct horse"
	otherPassword = "battery staple"
)

// register adds an active user whose password is the constant password and whose email address is
// confirmed.
func (w *world) register(username string) identity.User {
	w.Helper()
	u := w.registerOnly(username)
	return w.confirm(u, u.Email)
}

// confirm confirms an email address of a user without a mail.
func (w *world) confirm(u identity.User, email string) identity.User {
	w.Helper()
	hash := identity.TokenHash(sha256.Sum256([]byte(u.ID + email)))
	now := w.clock.Now()
	err := w.store.IssueToken(w.Context(), u.ID, email, identity.PurposeConfirm, hash, now.Add(time.Hour), now)
	if err == nil {
		err = w.store.ConfirmEmail(w.Context(), hash, true, now)
	}
	if err == nil {
		u, err = w.store.ByID(w.Context(), u.ID)
	}
	if err != nil {
		w.Fatal(err)
	}
	return u
}

// registerOnly is like register, but the email address is not confirmed and gets no mail.
func (w *world) registerOnly(username string) identity.User {
	w.Helper()
	defer func(enabled bool) { w.MailEnabled = enabled }(w.MailEnabled)
	w.MailEnabled = false
	u, err := w.Register(w.Context(), identity.NewUser{
		Username: username, Email: strings.ToLower(username) + "@example.com", Password: password,
	})
	if err != nil {
		w.Fatal(err)
	}
	return u
}

// deliver delivers the mail that is due and returns the messages that arrived.
func (w *world) deliver() []mail.Message {
	w.Helper()
	if _, err := w.postman.Deliver(w.Context()); err != nil {
		w.Fatal(err)
	}
	return w.mailbox.take()
}

// one delivers the mail that is due and returns it. The test fails unless there is exactly one mail, to the
// given address and with the given text in its subject.
func (w *world) one(to, subject string) mail.Message {
	w.Helper()
	mails := w.deliver()
	if len(mails) != 1 || mails[0].To != to || !strings.Contains(mails[0].Subject, subject) {
		w.Fatalf("want one mail %q to %s, got %+v", subject, to, mails)
	}
	return mails[0]
}

// token returns the token in a mail's link.
func (w *world) token(m mail.Message) string {
	w.Helper()
	link, err := url.Parse(regexp.MustCompile(`https://\S+`).FindString(m.Text))
	if err != nil {
		w.Fatal(err)
	}
	if token := link.Query().Get("resetPasswordToken"); token != "" {
		return token
	}
	token, found := strings.CutPrefix(link.Fragment, "token=")
	if !found {
		w.Fatalf("no token in %s", m.Text)
	}
	return token
}

// want fails the test unless err wraps want; if want is nil, err must be nil.
func (w *world) want(what string, err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Errorf("%s: %v, want %v", what, err, want)
	}
}

// signsIn reports whether a login with this username or email address and password succeeds.
func (w *world) signsIn(login, password string) bool {
	w.Helper()
	_, err := w.Authenticate(w.Context(), login, password, identity.Origin{})
	switch {
	case err == nil:
		return true
	case errors.Is(err, identity.ErrWrongPassword), errors.Is(err, identity.ErrNotFound):
		return false
	}
	w.Fatal(err)
	return false
}

// failures returns the user's history of logins, including failed ones, newest first.
func (w *world) failures(u identity.User) []issuer.Login {
	w.Helper()
	logins, err := w.db.Sessions().History(w.Context(), u.ID, issuer.Page{})
	if err != nil {
		w.Fatal(err)
	}
	return logins
}

// codes returns the code of each invalid field in err, by the field's name.
func codes(err error) map[string]string {
	var fields identity.FieldErrors
	if !errors.As(err, &fields) {
		return nil
	}
	codes := map[string]string{}
	for _, f := range fields {
		codes[f.Field] = f.Code
	}
	return codes
}

// startSession starts a session for a user in the session ledger (the database of sessions).
func (w *world) startSession(u identity.User) issuer.Session {
	w.Helper()
	now := w.clock.Now()
	id := issuer.NewTimedID(now)
	s, _, err := w.db.Sessions().Start(w.Context(), issuer.Start{
		ID: id, Subject: u.ID, TokenID: issuer.NewID(), CredentialVersion: u.PasswordVersion, AMR: "pwd", At: now,
		AccessExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour), MaxExpiresAt: now.Add(time.Hour),
		RefreshFamily: issuer.Hash([]byte(id + strings.Repeat("f", 2))), RefreshCurrent: issuer.Hash([]byte(id + strings.Repeat("c", 2))),
	})
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// active returns how many active sessions a user has.
func (w *world) active(u identity.User) int {
	w.Helper()
	list, err := w.db.Sessions().Active(w.Context(), u.ID, w.clock.Now(), issuer.Page{})
	if err != nil {
		w.Fatal(err)
	}
	return len(list)
}

// addHashed adds a user whose password was hashed as it was sent.
func (w *world) addHashed(username, password string) identity.User {
	w.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		w.Fatal(err)
	}
	u := identity.User{
		ID: w.NewID(), Username: username, Email: username + "@example.com", PasswordHash: string(hash), PasswordVersion: 1,
		Status: identity.StatusActive, CreatedAt: w.clock.Now(), UpdatedAt: w.clock.Now(),
	}
	w.want("add a user", w.store.Create(w.Context(), u, time.Time{}, nil), nil)
	return u
}
