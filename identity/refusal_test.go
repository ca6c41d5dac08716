package identity_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/mail"
)

// The time of a refused login must not reveal which usernames exist. So every refused login must cause the
// same work for bcrypt and the store.
func TestAuthenticate_EveryRefusedLoginCausesTheSameWork(t *testing.T) {
	w := newWorld(t)
	current := hasher(t, 7)
	ours := func(cost int) string {
		t.Helper()
		hash, err := hasher(t, cost).Hash(t.Context(), password)
		if err != nil {
			t.Fatal(err)
		}
		return hash
	}
	plain, err := bcrypt.GenerateFromPassword([]byte(password), 5)
	if err != nil {
		t.Fatal(err)
	}
	w.person("alice", ours(7), identity.StatusActive)
	w.person("pending", ours(7), identity.StatusPending)
	w.person("old", ours(4), identity.StatusActive)
	w.person("oldpending", ours(4), identity.StatusPending)
	w.person("imported", string(plain), identity.StatusActive)

	engine, turns, store := &countedEngine{}, &countedTurns{}, &countedAttempts{Store: w.store}
	current.Engine = engine
	current.Queue = hashing.NewQueue(hashing.QueueOptions{Slots: 1, Patience: time.Minute, Observer: turns})
	w.Hasher, w.Store = current, store
	huge := strings.Repeat("x", 2000)
	for _, c := range []struct{ why, login, password, reason string }{
		{"a wrong password", "alice", otherPassword, "wrong_password"},
		{"a wrong password by email", "alice@example.com", otherPassword, "wrong_password"},
		{"an unknown username", "bob", otherPassword, "unknown_user"},
		{"an unknown email", "bob@example.com", otherPassword, "unknown_user"},
		{"a username that is not UTF-8", "\xff", otherPassword, "unknown_user"},
		{"a password typed as the username", password, password, "unknown_user"},
		{"a password that is not UTF-8", "alice", "\xff\xfe", "wrong_password"},
		{"a huge password", "alice", huge, "wrong_password"},
		{"an unknown username and a huge password", "bob", huge, "unknown_user"},
		{"a pending user's password", "pending", password, "unverified"},
		{"a pending user and a wrong password", "pending", otherPassword, "wrong_password"},
		{"an old hash", "old", otherPassword, "wrong_password"},
		{"an old hash and a huge password", "old", huge, "wrong_password"},
		{"an old hash and a pending user's password", "oldpending", password, "unverified"},
		{"an imported hash", "imported", otherPassword, "wrong_password"},
		{"an imported hash and a longer password than bcrypt reads", "imported", strings.Repeat("x", 100), "wrong_password"},
	} {
		engine.spent, turns.n, store.got = 0, 0, nil
		if w.signsIn(c.login, c.password) {
			t.Errorf("%s: signed in", c.why)
		}
		if engine.spent != 1<<7 || turns.n != 1 {
			t.Errorf("%s: %d bcrypt rounds in %d turns, want %d rounds in 1 turn", c.why, engine.spent, turns.n, 1<<7)
		}
		if len(store.got) != 1 || store.got[0].Reason != c.reason {
			t.Errorf("%s: recorded %+v, want one failed login with reason %s", c.why, store.got, c.reason)
			continue
		}
		// An unknown username must not be recorded, because people type passwords into the field for the name.
		if text := fmt.Sprintf("%+v", store.got); strings.Contains(text, password) || c.reason == "unknown_user" && strings.Contains(text, "bob") {
			t.Errorf("%s: the username or password was recorded: %s", c.why, text)
		}
	}
}

// person adds a user with the given password hash.
func (w *world) person(username, hash string, status identity.Status) {
	w.Helper()
	err := w.store.Create(w.Context(), identity.User{
		ID: w.NewID(), Username: username, Email: username + "@example.com", PasswordHash: hash, PasswordVersion: 1,
		Status: status, CreatedAt: w.clock.Now(), UpdatedAt: w.clock.Now(),
	}, time.Time{}, nil)
	if err != nil {
		w.Fatal(err)
	}
}

// countedEngine is a hash engine that counts the rounds of bcrypt.
type countedEngine struct {
	hashing.Engine // nil; only bcrypt is used
	spent          int
}

func (e *countedEngine) Compare(_ context.Context, hash, secret []byte) error {
	cost, err := strconv.Atoi(string(hash[4:6]))
	if err != nil {
		return err
	}
	e.spent += 1 << cost
	return bcrypt.CompareHashAndPassword(hash, secret)
}

func (e *countedEngine) Generate(_ context.Context, secret []byte, cost int) ([]byte, error) {
	e.spent += 1 << cost
	return bcrypt.GenerateFromPassword(secret, cost)
}

// countedTurns is an Observer of the queue of password hashes. It counts how many times the queue let a
// request hash a password.
type countedTurns struct{ n int }

func (c *countedTurns) Hashed(time.Duration, time.Duration) { c.n++ }
func (*countedTurns) Shed(string, hashing.Visitor)          {}

// countedAttempts is a store that keeps the recorded failed logins.
type countedAttempts struct {
	identity.Store
	got []identity.Attempt
}

func (s *countedAttempts) RecordAttempt(ctx context.Context, a identity.Attempt) error {
	s.got = append(s.got, a)
	return s.Store.RecordAttempt(ctx, a)
}

// If the stored hash has a lower cost, Verify runs bcrypt several times, so that the check takes as long as
// usual. The login must return ErrUnavailable whichever of these runs fails.
func TestAuthenticate_ReturnsErrUnavailableIfTheEngineFails(t *testing.T) {
	w := newWorld(t)
	old, err := hasher(t, 4).Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	w.person("alice", old, identity.StatusActive)
	w.Hasher = hasher(t, 6)
	for broken := 1; broken <= 3; broken++ {
		w.Hasher.Engine = &brokenEngine{at: broken}
		for _, p := range []string{password, otherPassword} {
			w.want(fmt.Sprintf("run %d", broken), second(w.Authenticate(t.Context(), "alice", p, identity.Origin{})), identity.ErrUnavailable)
		}
	}
}

// brokenEngine is a hash engine whose every n-th Compare fails; the field at is n. Generate always fails.
type brokenEngine struct {
	hashing.Engine // nil; only bcrypt is used
	run, at        int
}

func (e *brokenEngine) Compare(_ context.Context, hash, secret []byte) error {
	if e.run++; e.run%e.at == 0 {
		return identity.ErrUnavailable
	}
	return bcrypt.CompareHashAndPassword(hash, secret)
}

func (e *brokenEngine) Generate(context.Context, []byte, int) ([]byte, error) {
	return nil, identity.ErrUnavailable
}

// RequestReset queues the same mail whether or not a user has the email address. Without a user, the mail
// is dropped when it is due.
func TestRequestReset_QueuesSameMailForUnknownAddress(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	for _, name := range []string{"expired", "pending"} {
		w.clock.pass(12 * time.Hour)
		email := name + "@example.com"
		w.want("register", w.RegisterByMail(t.Context(), identity.NewUser{Username: name, Email: email, Password: password}), nil)
		w.one(email, "Confirm")
	}
	w.clock.pass(12*time.Hour + time.Second)
	for _, c := range []struct {
		why, address string
		arrives      bool
	}{
		{"a user who can sign in", "alice@example.com", true},
		{"an unknown email address", "nobody@example.com", false},
		{"an email address that is not confirmed", "pending@example.com", true},
		{"an expired registration", "expired@example.com", false},
	} {
		w.want(c.why, w.RequestReset(t.Context(), c.address), nil)
		queued, err := w.store.DueMail(t.Context(), w.clock.Now(), time.Minute, 8)
		if err != nil || len(queued) != 1 {
			t.Fatalf("%s: queued %+v, %v", c.why, queued, err)
		}
		got := queued[0]
		if want := (mail.Envelope{ID: got.ID, Kind: mail.KindPasswordReset, To: c.address, QueuedAt: w.clock.Now(), Attempts: 1}); got != want {
			t.Errorf("%s: queued %+v, want %+v", c.why, got, want)
		}
		w.clock.pass(time.Minute)
		if arrived := len(w.deliver()) == 1; arrived != c.arrives {
			t.Errorf("%s: a mail arrived: %t, want %t", c.why, arrived, c.arrives)
		}
		w.clock.pass(time.Hour)
		if left, err := w.store.DueMail(t.Context(), w.clock.Now(), time.Minute, 8); err != nil || len(left) != 0 {
			t.Errorf("%s: the outbox still holds %+v, %v", c.why, left, err)
		}
	}
	if log := w.log.String(); strings.Count(log, "mail dropped") != 2 || strings.Contains(log, "@") {
		t.Errorf("log: %s", log)
	}
}

// If the token were not looked up for an unknown username, the quicker response would reveal that no user
// has this username.
func TestReset_ChecksTokenEvenForUnknownUser(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	store := &countedTokens{Store: w.store}
	w.Store = store
	for i, c := range []struct {
		username string
		want     error
	}{{"alice", identity.ErrInvalidToken}, {"bob", identity.ErrNotFound}, {"\xff", identity.ErrNotFound}} {
		w.want(c.username, second(w.CompleteReset(t.Context(), c.username, "nonsense", otherPassword, identity.Origin{})), c.want)
		if store.n != i+1 {
			t.Errorf("%q: the token was looked up %d times, want once", c.username, store.n-i)
		}
	}
	store.err = identity.ErrUnavailable
	w.want("a store that fails", second(w.CompleteReset(t.Context(), "bob", "nonsense", otherPassword, identity.Origin{})), identity.ErrUnavailable)
}

// countedTokens is a store that counts the lookups of tokens. If err is set, each lookup returns err.
type countedTokens struct {
	identity.Store
	n   int
	err error
}

func (s *countedTokens) TokenUser(ctx context.Context, purpose identity.Purpose, hash identity.TokenHash, at time.Time) (identity.User, error) {
	if s.n++; s.err != nil {
		return identity.User{}, s.err
	}
	return s.Store.TokenUser(ctx, purpose, hash, at)
}

// To a mail server, an address with the same folded form may be the address of another person. So the mail
// must go to the address as the user wrote it.
func TestReset_MailGoesToAddressAsTheUserWroteIt(t *testing.T) {
	w := newWorld(t)
	w.register("kate")
	const kelvin = "\u212Aate@example.com"
	w.want("request", w.RequestReset(t.Context(), kelvin), nil)
	w.one("kate@example.com", "new")
}
