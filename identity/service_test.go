package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/mail"
)

func TestRegister_CreatesAnActiveUser(t *testing.T) {
	w := newWorld(t)
	u, err := w.Register(t.Context(), identity.NewUser{
		Username: "Alice", Email: "Alice@Example.com", Password: password, FirstName: "Ali", LastName: "Ce",
	})
	if err != nil {
		t.Fatal(err)
	}
	if u.Status != identity.StatusActive || !u.EmailVerifiedAt.IsZero() || len(u.ID) != 22 || !u.CreatedAt.Equal(w.clock.Now()) {
		t.Errorf("got %+v", u)
	}
	stored, err := w.User(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	if stored != u {
		t.Errorf("returned %+v\n  stored %+v", u, stored)
	}
	if !strings.HasPrefix(u.PasswordHash, "$sessiond$") || strings.Contains(u.PasswordHash, password) {
		t.Errorf("the stored hash is %s", u.PasswordHash)
	}
	w.one("Alice@Example.com", "Confirm")
	for _, c := range []struct {
		why, username, email string
		want                 error
	}{
		{"the username in another case", "ALICE", "b@example.com", identity.ErrUsernameTaken},
		{"the email in another case", "bob", "alice@EXAMPLE.com", identity.ErrEmailTaken},
		{"both, of which only the username is reported", "alice", "alice@example.com", identity.ErrUsernameTaken},
	} {
		_, err := w.Register(t.Context(), identity.NewUser{Username: c.username, Email: c.email, Password: password})
		w.want(c.why, err, c.want)
	}
}

func TestRegister_ReportsEveryInvalidField(t *testing.T) {
	w := newWorld(t)
	bad := identity.NewUser{
		Username: "a@b", Email: "nowhere", Password: "short", FirstName: "a\x00", LastName: strings.Repeat("x", 201),
	}
	want := map[string]string{
		"username": "invalid", "email": "invalid", "password": "too_short", "first_name": "invalid", "last_name": "too_long",
	}
	_, err := w.Register(t.Context(), bad)
	if got := codes(err); !maps.Equal(got, want) {
		t.Errorf("got %v", err)
	}
	if got := codes(w.RegisterByMail(t.Context(), bad)); !maps.Equal(got, want) {
		t.Errorf("by mail: got %v", got)
	}
	_, err = w.Register(t.Context(), identity.NewUser{})
	if got := codes(err); !maps.Equal(got, map[string]string{"username": "required", "email": "required", "password": "required"}) {
		t.Errorf("without any field: %v", err)
	}
	_, err = w.Register(t.Context(), identity.NewUser{Username: "catherine", Email: "x@example.com", Password: "Catherine-97"})
	if got := codes(err); got["password"] != "too_similar" {
		t.Errorf("with a password made from the username: %v", err)
	}
}

func TestRegister_DoesNotHashIfNameIsTaken(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	w.Hasher = hasher(t, hashing.MaxCost) // makes each hash take about a second
	register := func(username, email string, want error) func() {
		return func() {
			n := identity.NewUser{Username: username, Email: email, Password: password}
			w.want("register "+username, second(w.Register(t.Context(), n)), want)
		}
	}
	for i, took := range leastCPU(t,
		register("alice", "b@example.com", identity.ErrUsernameTaken),
		register("bob", "alice@example.com", identity.ErrEmailTaken),
		func() {
			n := identity.NewUser{Username: "alice", Email: "b@example.com", Password: password}
			w.want("by mail", w.RegisterByMail(t.Context(), n), identity.ErrUsernameTaken)
		},
	) {
		if took > 300*time.Millisecond {
			t.Errorf("registration %d takes %v of CPU time, want at most 300ms", i, took)
		}
	}
}

func TestRegister_OnlyOneOfManyConcurrentRequestsGetsTheUsername_ASVS_V2_3_4(t *testing.T) {
	w := newWorld(t)
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			_, errs[i] = w.Register(context.WithoutCancel(t.Context()), identity.NewUser{
				Username: "alice", Email: string(rune('a'+i)) + "@example.com", Password: password,
			})
		})
	}
	all.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else {
			w.want("another registration", err, identity.ErrUsernameTaken)
		}
	}
	if made != 1 {
		t.Errorf("%d users were created, want 1", made)
	}
}

func TestRegisterByMail_UserSignsInAfterConfirmation(t *testing.T) {
	w := newWorld(t)
	alice := identity.NewUser{Username: "alice", Email: "alice@example.com", Password: password}
	if err := w.RegisterByMail(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	u, err := w.store.ByUsername(t.Context(), "alice")
	if err != nil || u.Status != identity.StatusPending {
		t.Fatalf("got %+v, %v", u, err)
	}
	mail := w.one("alice@example.com", "Confirm")
	if strings.Contains(mail.Text, "alice") || !strings.Contains(mail.Text, "https://auth.example.com/app/verify#token=") {
		t.Errorf("mail %s", mail.Text)
	}

	if w.signsIn("alice", password) {
		t.Error("signed in before the address was confirmed")
	}
	w.clock.pass(time.Second)
	if w.signsIn("alice", otherPassword) {
		t.Error("signed in with another password")
	}
	if f := w.failures(u); len(f) != 2 || f[1].EndReason != "unverified" || f[0].EndReason != "wrong_password" {
		t.Errorf("history %+v", f)
	}

	token := w.token(mail)
	w.want("another token", w.verify(token+"x"), identity.ErrInvalidToken)
	w.want("the verification token used to reset the password", second(w.CompleteReset(t.Context(), "", token, otherPassword, identity.Origin{})), identity.ErrInvalidToken)
	w.want("the token", w.verify(token), nil)
	w.want("the token again", w.verify(token), identity.ErrInvalidToken)
	if u, err = w.User(t.Context(), u.ID); err != nil || u.Status != identity.StatusActive || !u.EmailVerifiedAt.Equal(w.clock.Now()) {
		t.Errorf("got %+v, %v", u, err)
	}
	if !w.signsIn("alice", password) {
		t.Error("cannot sign in after the confirmation")
	}
}

// verify confirms an email address as a page does that sends only the token.
func (w *world) verify(token string) error {
	return w.ConfirmEmail(w.Context(), token, nil, identity.Origin{})
}

// second returns the error of a call with two results.
func second[T any](_ T, err error) error { return err }

func TestRegisterByMail_ResponseDoesNotRevealTakenAddress(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	bob := identity.NewUser{Username: "bob", Email: "ALICE@example.com", Password: password}
	if err := w.RegisterByMail(t.Context(), bob); err != nil {
		t.Fatal(err)
	}
	mail := w.one("alice@example.com", "already")
	if strings.Contains(mail.Text, "alice") || strings.Contains(mail.Text, "bob") || strings.Contains(mail.Text, "token") {
		t.Errorf("mail %s", mail.Text)
	}
	_, err := w.store.ByUsername(t.Context(), "bob")
	w.want("bob", err, identity.ErrNotFound)

	// The CPU time of a registration must not reveal that the email address is taken.
	w.Hasher = hasher(t, 8)
	i := 0
	took := leastCPU(t,
		func() {
			i++
			n := string(rune('a' + i))
			w.want("free", w.RegisterByMail(t.Context(), identity.NewUser{
				Username: "user" + n, Email: n + "@example.org", Password: password,
			}), nil)
		},
		func() { w.want("taken", w.RegisterByMail(t.Context(), bob), nil) })
	if free, taken := took[0], took[1]; taken < free*2/3 || taken > free*3/2 {
		t.Errorf("a free email address takes %v of CPU time, a taken one takes %v", free, taken)
	}
}

func hasher(t *testing.T, cost int) *hashing.Hasher {
	t.Helper()
	h, err := hashing.NewInsecureHasher(cost, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestRegisterByMail_FailsIfMailIsDisabled(t *testing.T) {
	w := newWorld(t)
	w.MailEnabled = false
	w.want("register", w.RegisterByMail(t.Context(), identity.NewUser{Username: "alice", Email: "alice@example.com", Password: password}),
		identity.ErrMailDisabled)
	w.want("reset", w.RequestReset(t.Context(), "alice@example.com"), identity.ErrMailDisabled)
}

func TestRegisterByMail_UnconfirmedRegistrationExpiresAfterADay(t *testing.T) {
	w := newWorld(t)
	alice := identity.NewUser{Username: "alice", Email: "alice@example.com", Password: password}
	w.want("first", w.RegisterByMail(t.Context(), alice), nil)
	token := w.token(w.one("alice@example.com", "Confirm"))

	w.clock.pass(24*time.Hour - time.Microsecond)
	other := alice
	other.Password = otherPassword
	w.want("the username within a day", w.RegisterByMail(t.Context(), other), identity.ErrUsernameTaken)
	w.want("a reset", w.RequestKnownReset(t.Context(), "alice@example.com"), nil)
	reset := w.token(w.one("alice@example.com", "new"))

	w.clock.pass(2 * time.Microsecond)
	w.want("a reset of the expired registration", w.RequestKnownReset(t.Context(), "alice@example.com"), identity.ErrNotFound)
	w.want("the same names after a day", second(w.Register(t.Context(), alice)), nil)
	w.want("the old link", w.verify(token), identity.ErrInvalidToken)
	w.want("the old reset", second(w.CheckReset(t.Context(), reset)), identity.ErrInvalidToken)
}

func TestAuthenticate_AcceptsUsernameOrEmail_ASVS_V6_2_8(t *testing.T) {
	w := newWorld(t)
	u := w.register("Alice")
	from := identity.Origin{IP: "192.0.2.7", UserAgent: "curl/8", Device: "curl"}
	for _, c := range []struct {
		why, login, password string
		want                 error
	}{
		{"the username", "Alice", password, nil},
		{"the username in another case", "aLICE", password, nil},
		{"the email", "alice@example.com", password, nil},
		{"the email in another case", "Alice@EXAMPLE.com", password, nil},
		{"the password in another case", "alice", strings.ToUpper(password), identity.ErrWrongPassword},
		{"a space after the password", "alice", password + " ", identity.ErrWrongPassword},
		{"an empty password", "alice", "", identity.ErrWrongPassword},
		{"a password that is not UTF-8", "alice", "\xff\xfe", identity.ErrWrongPassword},
		{"a huge password", "alice", strings.Repeat("x", 1<<20), identity.ErrWrongPassword},
		{"a NUL after the password", "alice", password + "\x00", identity.ErrWrongPassword},
		{"an unknown username", "bob", password, identity.ErrNotFound},
		{"an unknown email", "bob@example.com", password, identity.ErrNotFound},
		{"an empty login name", "", password, identity.ErrNotFound},
		{"a login name that is not UTF-8", "alice\xff", password, identity.ErrNotFound},
		{"a login name with NUL", "alice\x00", password, identity.ErrNotFound},
		{"a huge login name", strings.Repeat("x", 1<<20), password, identity.ErrNotFound},
		{"a huge email", strings.Repeat("x", 1<<20) + "@example.com", password, identity.ErrNotFound},
		{"an unknown username and a password that is not UTF-8", "bob", "\xff\xfe", identity.ErrNotFound},
	} {
		w.clock.pass(time.Second)
		before := len(w.failures(u))
		got, err := w.Authenticate(t.Context(), c.login, c.password, from)
		w.want(c.why, err, c.want)
		if err == nil && got != u {
			t.Errorf("%s: got %+v", c.why, got)
		}
		recorded := len(w.failures(u)) - before
		if want := errors.Is(c.want, identity.ErrWrongPassword); (recorded == 1) != want || recorded > 1 {
			t.Errorf("%s: %d failed logins were recorded", c.why, recorded)
		}
	}
	w.want("a wrong password", second(w.Authenticate(t.Context(), "alice", otherPassword, from)), identity.ErrWrongPassword)
	last := w.failures(u)[0]
	if !last.Failed || last.IP != from.IP || last.UserAgent != from.UserAgent || last.Device != from.Device ||
		last.EndReason != "wrong_password" || !last.CreatedAt.Equal(w.clock.Now()) {
		t.Errorf("the failed login was recorded as %+v", last)
	}
}

func TestReauthenticate_AcceptsOnlyTheUsersPassword(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	got, err := w.Reauthenticate(t.Context(), u.ID, password, identity.Origin{})
	if err != nil || got != u {
		t.Errorf("got %+v, %v", got, err)
	}
	w.want("a wrong password", second(w.Reauthenticate(t.Context(), u.ID, otherPassword, identity.Origin{})), identity.ErrWrongPassword)
	w.want("nobody", second(w.Reauthenticate(t.Context(), "nobody", password, identity.Origin{})), identity.ErrNotFound)
	if n := len(w.failures(u)); n != 1 {
		t.Errorf("%d failed logins were recorded, want 1", n)
	}
}

func TestAuthenticate_ReplacesOutdatedHash_ASVS_V11_2_2(t *testing.T) {
	w := newWorld(t)
	plain, err := bcrypt.GenerateFromPassword([]byte(password), 4)
	if err != nil {
		t.Fatal(err)
	}
	imported := identity.User{
		ID: w.NewID(), Username: "alice", Email: "alice@example.com", PasswordHash: string(plain), PasswordVersion: 1,
		Status: identity.StatusActive, CreatedAt: w.clock.Now(), UpdatedAt: w.clock.Now(),
	}
	if err := w.store.Create(t.Context(), imported, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	hash := func() string {
		u, err := w.User(t.Context(), imported.ID)
		if err != nil {
			t.Fatal(err)
		}
		if u.PasswordVersion != 1 {
			t.Errorf("password version %d", u.PasswordVersion)
		}
		return u.PasswordHash
	}

	if w.signsIn("alice", otherPassword); hash() != imported.PasswordHash {
		t.Error("a wrong password replaced the hash")
	}
	u, err := w.Authenticate(t.Context(), "alice", password, identity.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	first := hash()
	if !strings.HasPrefix(first, "$sessiond$v=1$p=0$2a$04$") || u.PasswordHash != first {
		t.Errorf("stored hash %s, returned hash %s", first, u.PasswordHash)
	}
	if !w.signsIn("alice", password) || hash() != first {
		t.Errorf("the second login replaced the hash too: %s", hash())
	}

	one := hashing.Pepper{ID: "k1", Key: []byte(strings.Repeat("1", 32))}
	w.Hasher = quickHasher(t, one)
	if !w.signsIn("alice", password) || !strings.HasPrefix(hash(), "$sessiond$v=1$p=k1$2a$04$") {
		t.Errorf("after a pepper was added, the hash is %s", hash())
	}
	w.Hasher, err = hashing.NewInsecureHasher(5, []hashing.Pepper{one})
	if err != nil {
		t.Fatal(err)
	}
	if !w.signsIn("alice", password) || !strings.HasPrefix(hash(), "$sessiond$v=1$p=k1$2a$05$") {
		t.Errorf("after the cost was raised, the hash is %s", hash())
	}
	if !w.signsIn("alice", password) {
		t.Error("cannot sign in with the new hash")
	}
}

// failing is a store whose methods Rehash and RecordAttempt fail with the given errors.
type failing struct {
	identity.Store
	rehash, recordAttempt error
}

func (f failing) Rehash(ctx context.Context, id, old, hash string) error {
	if f.rehash != nil {
		return f.rehash
	}
	return f.Store.Rehash(ctx, id, old, hash)
}

func (f failing) RecordAttempt(ctx context.Context, a identity.Attempt) error {
	if f.recordAttempt != nil {
		return f.recordAttempt
	}
	return f.Store.RecordAttempt(ctx, a)
}

func TestAuthenticate_SucceedsIfTheOutdatedHashCannotBeReplaced(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	w.Hasher = hasher(t, 5)
	w.Store = failing{Store: w.store, rehash: identity.ErrUnavailable}
	got, err := w.Authenticate(t.Context(), "alice", password, identity.Origin{})
	if err != nil || got.PasswordHash != u.PasswordHash {
		t.Errorf("got %+v, %v", got, err)
	}
	log := w.log.String()
	if !strings.Contains(log, "hash was not replaced") || strings.Contains(log, "$2a$") || strings.Contains(log, password) {
		t.Errorf("log: %s", log)
	}
}

func TestAuthenticate_DoesNotRevealWrongPasswordIfRecordingFails(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	w.Store = failing{Store: w.store, recordAttempt: identity.ErrUnavailable}
	_, err := w.Authenticate(t.Context(), "alice", otherPassword, identity.Origin{})
	if w.want("guess", err, identity.ErrUnavailable); errors.Is(err, identity.ErrWrongPassword) {
		t.Error("the error says that the password is wrong")
	}
}

func TestUpdateProfile_ChangesOnlyTheGivenFields(t *testing.T) {
	w := newWorld(t)
	w.want("register", w.RegisterByMail(t.Context(), identity.NewUser{Username: "alice", Email: "alice@example.com", Password: password}), nil)
	w.want("verify", w.verify(w.token(w.one("alice@example.com", "Confirm"))), nil)
	w.register("bob")
	u, err := w.store.ByUsername(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	update := func(p identity.Profile) identity.User {
		t.Helper()
		w.clock.pass(time.Second)
		got, err := w.UpdateProfile(t.Context(), u.ID, p, identity.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		stored, err := w.User(t.Context(), u.ID)
		if err != nil || stored != got {
			t.Errorf("returned %+v\n  stored %+v, %v", got, stored, err)
		}
		return got
	}

	first, last, empty := "Ali", "Ce", ""
	got := update(identity.Profile{FirstName: &first, LastName: &last})
	if got.FirstName != "Ali" || got.LastName != "Ce" || got.Email != u.Email || got.EmailVerifiedAt.IsZero() || !got.UpdatedAt.After(u.UpdatedAt) {
		t.Errorf("got %+v", got)
	}
	if got = update(identity.Profile{LastName: &empty}); got.FirstName != "Ali" || got.LastName != "" {
		t.Errorf("got %+v", got)
	}
	moved := "al@example.net"
	if got = update(identity.Profile{Email: &moved}); got.Email != u.Email || got.PendingEmail != moved || got.EmailVerifiedAt.IsZero() || got.FirstName != "Ali" {
		t.Errorf("another address: %+v", got)
	}
	if got := recipients(w.deliver()); got != "al@example.net alice@example.com" {
		t.Errorf("mails to %s", got)
	}

	taken, bad := "BOB@example.com", "bad\x00"
	w.want("taken", second(w.UpdateProfile(t.Context(), u.ID, identity.Profile{Email: &taken}, identity.Origin{})), identity.ErrEmailTaken)
	w.want("nobody", second(w.UpdateProfile(t.Context(), "nobody", identity.Profile{}, identity.Origin{})), identity.ErrNotFound)
	_, err = w.UpdateProfile(t.Context(), u.ID, identity.Profile{FirstName: &bad, LastName: &bad, Email: &empty}, identity.Origin{})
	if got := codes(err); !maps.Equal(got, map[string]string{"first_name": "invalid", "last_name": "invalid", "email": "required"}) {
		t.Errorf("got %v", err)
	}
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("mails %v", mails)
	}
}

// recipients returns the addresses of mails, in the order of the alphabet.
func recipients(mails []mail.Message) string {
	var to []string
	for _, m := range mails {
		to = append(to, m.To)
	}
	slices.Sort(to)
	return strings.Join(to, " ")
}

// This test fails if somebody adds a field to identity.Profile and does not validate it.
func TestProfile_EveryFieldIsValidated(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	bad := "bad\x00"
	for _, field := range reflect.VisibleFields(reflect.TypeFor[identity.Profile]()) {
		var p identity.Profile
		reflect.ValueOf(&p).Elem().FieldByIndex(field.Index).Set(reflect.ValueOf(&bad))
		if _, err := w.UpdateProfile(t.Context(), u.ID, p, identity.Origin{}); len(codes(err)) != 1 {
			t.Errorf("UpdateProfile accepts any text as %s: %v", field.Name, err)
		}
		n := identity.NewUser{Username: "bob", Email: "bob@example.com", Password: password}
		reflect.ValueOf(&n).Elem().FieldByName(field.Name).SetString(bad)
		if _, err := w.Register(t.Context(), n); len(codes(err)) != 1 {
			t.Errorf("Register accepts any text as %s: %v", field.Name, err)
		}
	}
}

// A change of a person's name must not undo a concurrent change of the email address.
func TestUpdateProfile_KeepsConcurrentChanges(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	for i := range 20 {
		first, last, email := fmt.Sprint("First", i), fmt.Sprint("Last", i), fmt.Sprintf("al%d@example.net", i)
		changes := []identity.Profile{{FirstName: &first}, {LastName: &last}, {Email: &email}}
		var all sync.WaitGroup
		for _, p := range changes {
			all.Go(func() { w.want("change", second(w.UpdateProfile(t.Context(), u.ID, p, identity.Origin{})), nil) })
		}
		all.Wait()
		got, err := w.User(t.Context(), u.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.FirstName != first || got.LastName != last || got.PendingEmail != email {
			t.Errorf("change %d left %q %q %q", i, got.FirstName, got.LastName, got.PendingEmail)
		}
	}
}

func TestChangePassword_RevokesOtherSessions_ASVS_V7_4_3(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	kept, ended := w.startSession(u), w.startSession(u)
	change := func(current *string, next string) (int64, error) {
		return w.ChangePassword(t.Context(), u.ID, current, next, kept.ID, identity.Origin{IP: "192.0.2.7"})
	}
	wrong, right := otherPassword, password

	w.clock.pass(time.Second)
	w.want("a wrong current password", second(change(&wrong, otherPassword)), identity.ErrWrongPassword)
	if f := w.failures(u); !f[0].Failed || f[0].IP != "192.0.2.7" {
		t.Errorf("history %+v", f[0])
	}
	_, err := change(&right, "alice-97")
	if got := codes(err); got["password"] != "too_similar" {
		t.Errorf("got %v", err)
	}
	if n := w.active(u); n != 2 || !w.signsIn("alice", password) {
		t.Fatalf("a refused change had an effect: %d sessions", n)
	}

	revocation, err := change(&right, otherPassword)
	if err != nil || revocation == 0 {
		t.Fatalf("revocation %d, %v", revocation, err)
	}
	if w.signsIn("alice", password) || !w.signsIn("alice", otherPassword) {
		t.Error("the new password is not in effect")
	}
	logins := w.failures(u)
	for _, l := range logins {
		if l.ID == ended.ID && l.EndReason != "password_changed" || l.ID == kept.ID && !l.EndedAt.IsZero() {
			t.Errorf("session %+v", l)
		}
	}
	if n := w.active(u); n != 1 {
		t.Errorf("%d sessions are left, want 1", n)
	}
	w.one("alice@example.com", "password was changed")

	w.want("without the current password", second(change(nil, password)), nil)
	w.want("the same password again", second(change(nil, password)), nil)
	w.want("nobody", second(w.ChangePassword(t.Context(), "nobody", nil, password, "", identity.Origin{})), identity.ErrNotFound)
}

func TestDelete_RemovesUserAndSessions_ASVS_V7_4_2_V10_3_3(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	w.startSession(u)
	revocation, err := w.Delete(t.Context(), u.ID)
	if err != nil || revocation == 0 {
		t.Fatalf("revocation %d, %v", revocation, err)
	}
	w.one("alice@example.com", "deleted")
	w.want("user", second(w.User(t.Context(), u.ID)), identity.ErrNotFound)
	w.want("a second deletion", second(w.Delete(t.Context(), u.ID)), identity.ErrNotFound)
	if w.active(u) != 0 || w.signsIn("alice", password) {
		t.Error("the deleted user still has a session or signs in")
	}
	if again := w.register("alice"); again.ID == u.ID {
		t.Error("the new account has the old id")
	}
}

func TestReset_TokenSetsPasswordOnce_ASVS_V2_3_1_V6_4_1_V6_5_1_V6_6_2(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	w.register("bob")
	w.startSession(u)

	for email, want := range map[string]string{"": "required", "nowhere": "invalid"} {
		if got := codes(w.RequestReset(t.Context(), email)); got["email"] != want {
			t.Errorf("%q: %v", email, got)
		}
	}
	w.want("unknown", w.RequestKnownReset(t.Context(), "nobody@example.com"), identity.ErrNotFound)
	w.want("request", w.RequestReset(t.Context(), "ALICE@example.com"), nil)
	mail := w.one("alice@example.com", "new")
	token := w.token(mail)
	if !strings.Contains(mail.Text, "https://auth.example.com/app/reset?resetPasswordToken="+token) ||
		!strings.Contains(mail.Text, "10 minutes") || !strings.Contains(mail.HTML, token) {
		t.Errorf("mail %s", mail.Text)
	}

	for range 2 { // twice, because a check must not use up the token
		got, err := w.CheckReset(t.Context(), token)
		if err != nil || got.ID != u.ID {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	w.want("the reset token used to verify the email address", w.verify(token), identity.ErrInvalidToken)
	for _, c := range []struct {
		why, username, token string
		want                 error
	}{
		{"no token", "", "", identity.ErrInvalidToken},
		{"a shorter token", "", token[:42], identity.ErrInvalidToken},
		{"the token in another case", "", strings.ToUpper(token), identity.ErrInvalidToken},
		{"a huge token", "", strings.Repeat("x", 1<<20), identity.ErrInvalidToken},
		{"a token that is not UTF-8", "", "\xff\x00", identity.ErrInvalidToken},
		{"an unknown username", "carol", token, identity.ErrNotFound},
		{"an unknown username and no token", "carol", "", identity.ErrNotFound},
		{"a username that is not valid UTF-8", "a\x00\xff", token, identity.ErrNotFound},
		{"another user's username", "bob", token, identity.ErrInvalidToken},
		{"another user's username and no token", "bob", "", identity.ErrInvalidToken},
		{"another user's address", "bob@example.com", token, identity.ErrInvalidToken},
		{"an unknown address", "carol@example.com", token, identity.ErrNotFound},
	} {
		w.want("check: "+c.why, second(w.CheckReset(t.Context(), c.token)), map[bool]error{true: nil, false: identity.ErrInvalidToken}[c.token == token])
		w.want(c.why, second(w.CompleteReset(t.Context(), c.username, c.token, otherPassword, identity.Origin{})), c.want)
	}
	for weak, want := range map[string]string{"": "required", "short": "too_short", "alice-97": "too_similar", "\xffxxxxxxxxx": "invalid"} {
		_, err := w.CompleteReset(t.Context(), "", token, weak, identity.Origin{})
		if got := codes(err); got["password"] != want {
			t.Errorf("%q: %v", weak, err)
		}
	}
	if !w.signsIn("alice", password) {
		t.Fatal("a refused reset had an effect")
	}

	done, err := w.CompleteReset(t.Context(), "Alice", token, otherPassword, identity.Origin{})
	if err != nil || done.Revocation == 0 || done.User.ID != u.ID {
		t.Fatalf("%+v, %v", done, err)
	}
	w.one("alice@example.com", "password was changed")
	if w.active(u) != 0 || w.signsIn("alice", password) || !w.signsIn("alice", otherPassword) {
		t.Error("the old password or a session still works, or the new password does not")
	}
	w.want("a second reset", second(w.CompleteReset(t.Context(), "", token, password, identity.Origin{})), identity.ErrInvalidToken)
	w.want("check again", second(w.CheckReset(t.Context(), token)), identity.ErrInvalidToken)
}

func TestReset_LinkExpiryCountsFromSendingTheMail_ASVS_V6_4_1_V6_5_5(t *testing.T) {
	w := newWorld(t)
	w.ResetTTL = 5 * time.Minute
	w.register("alice")
	w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
	w.clock.pass(4 * time.Minute) // the mail is sent four minutes late; the five minutes of the link begin then
	token := w.token(w.one("alice@example.com", "new"))
	w.clock.pass(5*time.Minute - time.Second)
	w.want("before its expiry", second(w.CheckReset(t.Context(), token)), nil)
	w.clock.pass(time.Second)
	w.want("check after its expiry", second(w.CheckReset(t.Context(), token)), identity.ErrInvalidToken)
	w.want("after its expiry", second(w.CompleteReset(t.Context(), "", token, otherPassword, identity.Origin{})), identity.ErrInvalidToken)
}

func TestReset_NewLinkReplacesOldLink_ASVS_V6_6_2(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
	older := w.token(w.one("alice@example.com", "new"))
	w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
	newer := w.token(w.one("alice@example.com", "new"))
	w.want("older", second(w.CheckReset(t.Context(), older)), identity.ErrInvalidToken)
	w.want("newer", second(w.CheckReset(t.Context(), newer)), nil)
}

func TestReset_OnlyOneOfManyConcurrentRequestsCanUseTheToken_ASVS_V2_3_4_V6_5_1(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
	token := w.token(w.one("alice@example.com", "new"))
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			_, errs[i] = w.CompleteReset(context.WithoutCancel(t.Context()), "", token, otherPassword, identity.Origin{})
		})
	}
	all.Wait()
	used := 0
	for _, err := range errs {
		if err == nil {
			used++
		} else {
			w.want("another reset with the same token", err, identity.ErrInvalidToken)
		}
	}
	if used != 1 {
		t.Errorf("the token was used %d times, want once", used)
	}
}

func TestReset_DoesNotHashForInvalidToken(t *testing.T) {
	w := newWorld(t)
	w.Hasher = hasher(t, hashing.MaxCost)
	took := leastCPU(t, func() {
		w.want("reset", second(w.CompleteReset(t.Context(), "", "guess", otherPassword, identity.Origin{})), identity.ErrInvalidToken)
	})
	if took[0] > 300*time.Millisecond {
		t.Errorf("took %v of CPU time, want at most 300ms", took[0])
	}
}

func TestRegister_StoresUnusualStringsUnchangedOrRefusesThem(t *testing.T) {
	data, err := os.ReadFile("../../shared/vectors/blns/blns.json")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("SKIPPED: there is no list of naughty strings in ../../shared/vectors")
	}
	if err != nil {
		t.Fatal(err)
	}
	var naughty []string
	if err := json.Unmarshal(data, &naughty); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	u := w.register("alice")
	for i, s := range naughty {
		if w.signsIn(s, s) {
			t.Errorf("a login with %q as username and password succeeds", s)
		}
		n := identity.NewUser{Username: s, Email: s, Password: s, FirstName: s, LastName: s}
		if _, err := w.Register(t.Context(), n); codes(err) == nil {
			t.Errorf("%q in every field: %v", s, err)
		}
		n.Email = "user" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + "@example.com"
		n.Password = password
		made, err := w.Register(t.Context(), n)
		if errors.Is(err, identity.ErrUsernameTaken) {
			continue // in folded form, the username is the same as an earlier one
		}
		if err != nil {
			if codes(err) == nil {
				t.Errorf("%q as username, first name and last name: %v", s, err)
			}
			continue
		}
		if got, err := w.store.ByUsername(t.Context(), s); err != nil || got != made || got.Username != s || got.FirstName != s {
			t.Errorf("%q is stored as %+v, %v", s, got, err)
		}
		w.want("reset", second(w.CompleteReset(t.Context(), s, s, otherPassword, identity.Origin{})), identity.ErrInvalidToken)
	}
	if !w.signsIn("alice", password) {
		t.Errorf("%s cannot sign in", u.Username)
	}
}
