package identity_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// newLimitedWorld returns a test environment with rate limits in memory. Package limittest tests that limits
// in Redis behave the same.
func newLimitedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.Limits = limit.NewFailover(limit.NewLocal(10_000), limit.NewLocal(10_000))
	return w
}

// guess tries to log in from a client address. If a rate limit refuses the login, the result refused is how
// long the client must wait.
func (w *world) guess(login, password, ip string) (refused time.Duration, err error) {
	w.Helper()
	_, err = w.Authenticate(w.Context(), login, password, identity.Origin{IP: ip})
	return retryOf(err), err
}

// retryOf returns how long the client must wait if err comes from a rate limit, and otherwise 0.
func retryOf(err error) time.Duration {
	retry := (*identity.RetryError)(nil)
	if errors.As(err, &retry) && errors.Is(err, identity.ErrLimited) {
		return retry.After
	}
	return 0
}

// wantGuesses checks that the limits allow exactly n wrong guesses, and that the client must then wait for
// exactly the given duration.
func (w *world) wantGuesses(n int, retry time.Duration, guess func(i int) error) {
	w.Helper()
	for i := range n {
		if err := guess(i); !errors.Is(err, identity.ErrWrongPassword) && !errors.Is(err, identity.ErrNotFound) {
			w.Fatalf("guess %d of %d: %v", i+1, n, err)
		}
	}
	if got := retryOf(guess(n)); got != retry {
		w.Errorf("guess %d was told to wait for %v, want %v", n+1, got, retry)
	}
}

// address returns a client address of a different network for each number i below 131072.
func address(i int) string { return fmt.Sprintf("198.%d.%d.%d", 18+i>>16&1, i&255, i>>8&255) }

func TestLimits_Allow44GuessesADayAtOneLoginNameFromAllAddresses(t *testing.T) {
	w := newLimitedWorld(t)
	u := w.register("Ada")
	w.register("bob")
	end := w.clock.Now().Add(24 * time.Hour)
	made := map[string]int{}
	for i := 0; w.clock.Now().Before(end); {
		pause := time.Hour
		for _, login := range []string{"ada", "ADA", u.Email, strings.ToUpper(u.Email)} {
			i++
			refused, err := w.guess(login, otherPassword, address(i))
			switch {
			case errors.Is(err, identity.ErrWrongPassword):
				made[identity.Fold(login)]++
				pause = 0
			case refused > 0:
				pause = min(pause, refused)
				// Even the right password must be refused. Otherwise an attacker could go on guessing.
				if refused, err = w.guess(login, password, address(i)); refused == 0 {
					t.Fatalf("the right password: %v", err)
				}
			default:
				t.Fatal(err)
			}
		}
		w.clock.pass(pause)
	}
	if made["ada"] != 44 || made["ada@example.com"] != 44 {
		t.Errorf("guesses in a day: %v, want 44 at the username and 44 at the email", made)
	}
	if _, err := w.guess("bob", password, address(1)); err != nil {
		t.Errorf("login of another user from an address that guessed: %v", err)
	}
}

func TestLimits_DoNotRevealWhichUsernamesExist(t *testing.T) {
	w := newLimitedWorld(t)
	w.register("ada")
	type answer struct {
		retry time.Duration
		quota limit.Decision
	}
	ask := func(login string) (answers []answer) {
		for range 12 {
			var quota limit.Decision
			_, err := w.Authenticate(t.Context(), login, otherPassword, identity.Origin{IP: "203.0.113.7", Quota: &quota})
			answers = append(answers, answer{retryOf(err), quota})
		}
		for i := range 5 {
			retry, err := w.guess(login, otherPassword, address(i))
			if retry == 0 && !errors.Is(err, identity.ErrWrongPassword) && !errors.Is(err, identity.ErrNotFound) {
				t.Fatal(err)
			}
			answers = append(answers, answer{retry: retry})
		}
		return answers
	}
	if known, unknown := ask("ada"), ask("nobody"); !slices.Equal(known, unknown) {
		t.Errorf("responses for a known username   %+v\nresponses for an unknown username %+v", known, unknown)
	}
}

func TestLimits_Allow8GuessesPerAccountAnd100InAllFromOneAddress(t *testing.T) {
	w := newLimitedWorld(t)
	w.register("ada")
	const ip = "203.0.113.7"
	w.wantGuesses(8, 30*time.Minute, func(int) error { _, err := w.guess("ada", otherPassword, ip); return err })
	w.wantGuesses(92, 10*time.Second, func(i int) error { _, err := w.guess(fmt.Sprint("name", i), otherPassword, ip); return err })

	// Guesses that a limit refused do not count against the account. So of ten guesses that an account
	// allows without a wait, two are left for other client addresses.
	for range 20 {
		if refused, err := w.guess("ada", otherPassword, ip); refused == 0 {
			t.Fatal(err)
		}
	}
	w.wantGuesses(2, time.Second, func(i int) error { _, err := w.guess("ada", otherPassword, address(i)); return err })
	w.clock.pass(10 * time.Second)
	w.wantGuesses(1, 10*time.Second, func(i int) error { _, err := w.guess(fmt.Sprint("more", i), otherPassword, ip); return err })
}

func TestLimits_RefundLoginsWithRightPasswordAndCanceledLogins(t *testing.T) {
	w := newLimitedWorld(t)
	u := w.register("ada")
	from := identity.Origin{IP: "203.0.113.7", Session: "s1"}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	current := password
	for range 30 {
		if _, err := w.Authenticate(t.Context(), "ada", password, from); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Authenticate(gone, "ada", otherPassword, from); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if _, err := w.Reauthenticate(t.Context(), u.ID, password, from); err != nil {
			t.Fatal(err)
		}
		if _, err := w.ChangePassword(t.Context(), u.ID, &current, password, "", from); err != nil {
			t.Fatal(err)
		}
	}
	w.wantGuesses(8, 30*time.Minute, func(int) error { _, err := w.guess("ada", otherPassword, from.IP); return err })
}

func TestLimits_AllowAFewHundredGuessesFromOneNetwork_ASVS_V2_4_1(t *testing.T) {
	w := newLimitedWorld(t)
	w.register("ada")
	// One customer's /48 has 65,536 networks of the size /64.
	hop := func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i) }
	w.wantGuesses(500, 2*time.Second, func(i int) error { _, err := w.guess(fmt.Sprint("name", i), otherPassword, hop(i)); return err })
	_, err := w.guess("ada", password, "2001:db8:1::1")
	w.want("the owner's login from another network", err, nil)
}

// signIns returns the device tokens of n new devices on which the user signed in.
func (w *world) signIns(n int, u identity.User) (tokens []string) {
	for range n {
		tokens = append(tokens, w.DeviceToken("", u))
	}
	return tokens
}

// Somebody who knew the password signed in 1,000 times and kept the device tokens. After the owner has
// changed the password, the tokens must not be worth more guesses than one.
func TestLimits_DeviceTokensDoNotMultiplyGuesses_ASVS_V2_4_1_V6_3_1(t *testing.T) {
	w := newLimitedWorld(t)
	w.DeviceSecret = []byte("secret")
	u := w.register("ada")
	tokens := w.signIns(1000, u)
	current := password
	_, err := w.ChangePassword(t.Context(), u.ID, &current, "a third password", "", identity.Origin{})
	w.want("the change of the password", err, nil)
	made, tries := 0, 0
	for end := w.clock.Now().Add(24 * time.Hour); w.clock.Now().Before(end); w.clock.pass(10 * time.Minute) {
		for range 20 {
			tries++
			_, err := w.Authenticate(t.Context(), "ada", otherPassword, identity.Origin{IP: "203.0.113.7", DeviceToken: tokens[tries%len(tokens)]})
			if errors.Is(err, identity.ErrWrongPassword) {
				made++
			} else if retryOf(err) == 0 {
				t.Fatal(err)
			}
		}
	}
	if made != 43 {
		t.Errorf("%d guesses in a day with 1,000 device tokens, want 43", made)
	}
	// The tokens use up neither the guesses of strangers nor the owner's login without a token.
	_, err = w.Authenticate(t.Context(), "ada", "a third password", identity.Origin{IP: "198.51.100.1"})
	w.want("the owner's login from an unknown device", err, nil)
}

func TestLimits_KnownDeviceIsChargedToItsAddress_ASVS_V2_4_1(t *testing.T) {
	w := newLimitedWorld(t)
	w.DeviceSecret = []byte("secret")
	var tokens []string
	for i := range 7 {
		tokens = append(tokens, w.DeviceToken("", w.register(fmt.Sprint("user", i))))
	}
	from := func(i int) identity.Origin { return identity.Origin{IP: "203.0.113.7", DeviceToken: tokens[i%7]} }
	// Each of the seven devices allows ten guesses. An unknown device at the same address uses up the rest.
	w.wantGuesses(30, 10*time.Second, func(i int) error {
		if i < 30 {
			_, err := w.guess(fmt.Sprint("name", i), otherPassword, "203.0.113.7")
			return err
		}
		for j := range 70 {
			if _, err := w.Authenticate(t.Context(), fmt.Sprint("user", j%7), otherPassword, from(j)); !errors.Is(err, identity.ErrWrongPassword) {
				t.Fatalf("guess %d of known devices: %v", j+1, err)
			}
		}
		_, err := w.guess("name", otherPassword, "203.0.113.7")
		return err
	})
}

func TestCompleteReset_EndsDeviceTokensOfAllOtherDevices_ASVS_V6_3_1(t *testing.T) {
	w := newLimitedWorld(t)
	w.DeviceSecret = []byte("secret")
	u := w.register("ada")
	old := w.signIns(2, u)
	w.want("request", w.RequestReset(t.Context(), u.Email), nil)
	done, err := w.CompleteReset(t.Context(), "", w.token(w.one(u.Email, "password")), otherPassword, identity.Origin{DeviceToken: old[1]})
	w.want("reset", err, nil)
	kept := w.DeviceToken(old[1], done.User)
	// Use up the guesses of unknown devices.
	for i := range 10 {
		_, _ = w.guess("ada", password, address(i))
	}
	for i, c := range []struct {
		token string
		want  error
	}{{old[0], identity.ErrLimited}, {old[1], identity.ErrLimited}, {kept, nil}} {
		_, err := w.Authenticate(t.Context(), "ada", otherPassword, identity.Origin{IP: address(100 + i), DeviceToken: c.token})
		w.want(fmt.Sprint("a login with token ", i), err, c.want)
	}
}

// A login asks all limits in one call, with and without a device token.
func TestAuthenticate_ChargesAllLimitsInOneCall(t *testing.T) {
	w := newWorld(t)
	w.DeviceSecret = []byte("secret")
	u := w.register("ada")
	limiter := &watched{limit.NewLocal(100), make(chan struct{}, 100), make(chan struct{}, 100)}
	w.Limits = limit.NewFailover(limiter, limit.NewLocal(100))
	for _, token := range []string{"", w.DeviceToken("", u)} {
		_, err := w.Authenticate(t.Context(), "ada", password, identity.Origin{IP: "203.0.113.7", DeviceToken: token})
		w.want("login", err, nil)
		if charges, refunds := len(limiter.charges), len(limiter.refunds); charges != 1 || refunds != 1 {
			t.Errorf("device token %q: %d charges and %d refunds, want 1 and 1", token, charges, refunds)
		}
		<-limiter.charges
		<-limiter.refunds
	}
}

// forgetful is a store that cannot record failed logins.
type forgetful struct{ identity.Store }

func (forgetful) RecordAttempt(context.Context, identity.Attempt) error {
	return identity.ErrUnavailable
}

// An attacker who makes the recording fail still learns from the error that the password was wrong. So the
// guess must be charged.
func TestLimits_ChargeWrongPasswordEvenIfRecordingFails(t *testing.T) {
	w := newLimitedWorld(t)
	w.register("ada")
	w.Store = forgetful{w.Store}
	for range 8 {
		if _, err := w.guess("ada", otherPassword, "203.0.113.7"); !errors.Is(err, identity.ErrUnavailable) || errors.Is(err, identity.ErrWrongPassword) {
			t.Fatal(err)
		}
	}
	if refused, err := w.guess("ada", otherPassword, "203.0.113.7"); refused != 30*time.Minute {
		t.Error(err)
	}
}

func TestLimits_GuessesInStolenSessionDoNotLimitOtherSessions(t *testing.T) {
	w := newLimitedWorld(t)
	u := w.register("ada")
	wrong := otherPassword
	stolen := identity.Origin{IP: "198.51.100.1", Session: "stolen"}
	w.wantGuesses(10, time.Second, func(i int) error {
		if i%2 == 0 {
			_, err := w.Reauthenticate(t.Context(), u.ID, otherPassword, stolen)
			return err
		}
		_, err := w.ChangePassword(t.Context(), u.ID, &wrong, "a third password", "", stolen)
		return err
	})
	_, err := w.ChangePassword(t.Context(), u.ID, &wrong, "a third password", "", stolen)
	w.want("a change of the password in the stolen session", err, identity.ErrLimited)
	_, err = w.Reauthenticate(t.Context(), u.ID, password, identity.Origin{IP: "198.51.100.1", Session: "own"})
	w.want("another session", err, nil)
	if !w.signsIn("ada", password) {
		t.Error("a login was refused")
	}
}

func TestLimits_PasswordResetClearsWrongGuessesOfTheAccount(t *testing.T) {
	w := newLimitedWorld(t)
	u := w.register("Ada")
	from := identity.Origin{IP: "203.0.113.7"}
	for _, login := range []string{"ada", u.Email} {
		w.wantGuesses(8, 30*time.Minute, func(int) error { _, err := w.guess(login, otherPassword, from.IP); return err })
		w.wantGuesses(2, time.Second, func(i int) error { _, err := w.guess(login, otherPassword, address(i)); return err })
	}
	w.want("request", w.RequestReset(t.Context(), u.Email), nil)
	token := w.token(w.one(u.Email, "password"))
	if _, err := w.CompleteReset(t.Context(), "", "another", otherPassword, from); !errors.Is(err, identity.ErrInvalidToken) {
		t.Fatal(err)
	}
	if refused, err := w.guess("ada", password, from.IP); refused == 0 {
		t.Errorf("after a failed reset: %v", err)
	}
	if _, err := w.CompleteReset(t.Context(), "", token, otherPassword, from); err != nil {
		t.Fatal(err)
	}
	for _, login := range []string{"ada", u.Email} {
		if _, err := w.guess(login, otherPassword, from.IP); err != nil {
			t.Errorf("%s after the reset: %v", login, err)
		}
		if _, err := w.guess(login, otherPassword, address(1)); err != nil {
			t.Errorf("%s after the reset, from another address: %v", login, err)
		}
	}
}

func TestAdmit_RefusesEachActionBeyondItsLimit(t *testing.T) {
	for _, c := range []struct {
		why           string
		action, email string
		from          func(i int) string
		allowed       int
		retry         time.Duration
	}{
		{"registrations from an address", limit.ActionRegister, "", func(int) string { return "203.0.113.7" }, 20, time.Minute},
		{"registrations from an IPv6 network", limit.ActionRegister, "", func(i int) string { return fmt.Sprintf("2001:db8:0:1:%x::1", i) }, 20, time.Minute},
		{"registrations from an IPv4 address in two spellings", limit.ActionRegister, "", func(i int) string { return []string{"203.0.113.7", "::ffff:203.0.113.7"}[i%2] }, 20, time.Minute},
		{"reset mails to one email address", limit.ActionReset, "Ada@example.com", func(int) string { return "203.0.113.7" }, 3, 10 * time.Minute},
		{"mails requested from one client address", limit.ActionReset, "", func(int) string { return "203.0.113.7" }, 20, time.Minute},
		{"mailed tokens from an address", limit.ActionMailedToken, "", func(int) string { return "203.0.113.7" }, 30, 10 * time.Second},
		{"refreshes from an address", limit.ActionRefresh, "", func(int) string { return "203.0.113.7" }, 1000, 50 * time.Millisecond},
		{"registrations from an IPv6 /48", limit.ActionRegister, "", func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", 16+i) }, 100, 12 * time.Second},
		{"registrations from an IPv4 /24", limit.ActionRegister, "", func(i int) string { return fmt.Sprint("203.0.113.", i) }, 100, 12 * time.Second},
		{"mails requested from a network", limit.ActionReset, "", func(i int) string { return fmt.Sprint("203.0.113.", i) }, 100, 12 * time.Second},
		{"mailed tokens from a network", limit.ActionMailedToken, "", func(i int) string { return fmt.Sprint("203.0.113.", i) }, 150, 2 * time.Second},
		{"refreshes from a network", limit.ActionRefresh, "", func(i int) string { return fmt.Sprint("203.0.113.", i%256) }, 5000, 10 * time.Millisecond},
		{"registrations from an unknown address", limit.ActionRegister, "", func(int) string { return "" }, 20, time.Minute},
	} {
		w := newLimitedWorld(t)
		for i := range c.allowed + 1 {
			email := c.email
			if email == "" {
				email = fmt.Sprintf("u%d@example.com", i)
			}
			_, err := w.Admit(t.Context(), c.action, email, identity.Origin{IP: c.from(i)})
			if i < c.allowed && err != nil || i == c.allowed && retryOf(err) != c.retry {
				t.Errorf("%s: action %d: %v", c.why, i+1, err)
				break
			}
		}
		if _, err := w.Admit(t.Context(), c.action, "else@example.com", identity.Origin{IP: "2001:db8:1:2::1"}); err != nil {
			t.Errorf("%s: another client: %v", c.why, err)
		}
		w.clock.pass(c.retry)
		if _, err := w.Admit(t.Context(), c.action, c.email, identity.Origin{IP: c.from(0)}); err != nil {
			t.Errorf("%s: after the wait: %v", c.why, err)
		}
	}
}

// Each registration is charged to the limit on mails that its client may request for the email address, even
// if no mail is sent. Otherwise the limit would reveal which addresses have an account. The same mail is
// queued, too, because the time of the response would reveal it.
func TestRegisterByMail_SendsAtMostThreeMailsForOneClient(t *testing.T) {
	w := newLimitedWorld(t)
	u := w.register("ada")
	i := 0
	register := func(email, ip string) {
		t.Helper()
		i++
		w.want("register", w.RegisterByMail(t.Context(), identity.NewUser{
			Username: fmt.Sprint("user", i), Email: email, Password: password, IP: ip,
		}), nil)
	}
	for _, email := range []string{u.Email, "free@example.com"} {
		for range 10 {
			register(strings.ToUpper(email), "203.0.113.7")
		}
		queued, err := w.store.DueMail(t.Context(), w.clock.Now(), 0, 100)
		if err != nil || len(queued) != 10 {
			t.Errorf("%s: %d mails were queued, %v, want 10", email, len(queued), err)
		}
		if n := len(w.deliver()); n != 3 {
			t.Errorf("%s: %d mails, want 3", email, n)
		}
		register(email, "203.0.113.8")
		if n := len(w.deliver()); n != 1 {
			t.Errorf("%s: %d mails for another client, want 1", email, n)
		}
		w.want("a reset", second(w.Admit(t.Context(), limit.ActionReset, email, identity.Origin{IP: "203.0.113.7"})), nil)
	}
	w.clock.pass(10 * time.Minute)
	register(u.Email, "203.0.113.7")
	w.one(u.Email, "already")
}

// unqueued is a store that cannot queue a mail.
type unqueued struct{ identity.Store }

func (unqueued) Enqueue(context.Context, mail.Envelope, time.Time) error {
	return identity.ErrUnavailable
}

func TestRegisterByMail_RefundsChargeIfMailIsNotQueued(t *testing.T) {
	w := newLimitedWorld(t)
	w.register("ada")
	w.Store = unqueued{w.store}
	eve := identity.NewUser{Username: "eve", Email: "ada@example.com", Password: password}
	for range 5 {
		w.want("register", w.RegisterByMail(t.Context(), eve), identity.ErrUnavailable)
	}
	w.Store = w.store
	for range 4 {
		w.want("register", w.RegisterByMail(t.Context(), eve), nil)
	}
	if n := len(w.deliver()); n != 3 {
		t.Errorf("%d mails after the failures, want 3", n)
	}
}

// witness is an Observer that records what the rate limits decided.
type witness struct{ got []string }

func (o *witness) Breached(string)      {}
func (o *witness) Finished(_, _ string) {}
func (o *witness) Refused(rule, account, network string) {
	o.got = append(o.got, fmt.Sprintf("refused by %s: %s, %s", rule, account, network))
}

func (o *witness) Limited(action string, allowed, shared bool) {
	o.got = append(o.got, fmt.Sprintf("%s %t %t", action, allowed, shared))
}

// down is a limiter that does not answer, like Redis during an outage.
type down struct{ limit.Limiter }

func (down) Charge(context.Context, time.Time, []limit.Key) (limit.Decision, error) {
	return limit.Decision{}, errors.New("down")
}

func TestLimits_ReportEachDecisionToTheObserver(t *testing.T) {
	w, o := newLimitedWorld(t), &witness{}
	w.Observer = o
	from := identity.Origin{IP: "203.0.113.7"}
	w.want("a mail", second(w.Admit(t.Context(), limit.ActionReset, "a@example.com", from)), nil)
	w.Limits = limit.NewFailover(down{}, limit.NewLocal(100))
	for range 4 {
		_, _ = w.Admit(t.Context(), limit.ActionReset, "a@example.com", from)
	}
	_, _ = w.guess("ada", password, from.IP)
	want := []string{
		"reset true true", "reset true false", "reset true false", "reset true false", "reset false false",
		"refused by reset-email: a@example.com, 203.0.113.0/24", "login true false",
	}
	if !slices.Equal(o.got, want) {
		t.Errorf("observed %q, want %q", o.got, want)
	}
}

// watched is a limiter that sends a signal on a channel after each charge and each refund.
type watched struct {
	limit.Limiter
	charges, refunds chan struct{}
}

func (l *watched) Charge(ctx context.Context, now time.Time, keys []limit.Key) (limit.Decision, error) {
	defer func() { l.charges <- struct{}{} }()
	return l.Limiter.Charge(ctx, now, keys)
}

func (l *watched) Refund(ctx context.Context, now time.Time, d []limit.Key) error {
	defer func() { l.refunds <- struct{}{} }()
	return l.Limiter.Refund(ctx, now, d)
}

// stuck is a hash engine whose Compare does not return before the test closes its channel end.
type stuck struct {
	hashing.Engine // nil; only bcrypt is used
	begun, end     chan struct{}
}

func (e *stuck) Generate(context.Context, []byte, int) ([]byte, error) {
	return nil, errors.New("stuck")
}

func (e *stuck) Compare(context.Context, []byte, []byte) error {
	e.begun <- struct{}{}
	<-e.end
	return bcrypt.ErrMismatchedHashAndPassword
}

// A login is charged to the rate limits only after it has a place in the queue of password hashes. If the
// login then waits too long, the charge is refunded. If the limits refuse the login, it leaves the queue.
func TestAuthenticate_EntersHashQueueBeforeChargingRateLimits(t *testing.T) {
	w := newLimitedWorld(t)
	w.register("ada")
	const ip = "203.0.113.7"
	w.wantGuesses(8, 30*time.Minute, func(int) error { _, err := w.guess("eve", otherPassword, ip); return err })
	limiter := &watched{limit.NewLocal(100), make(chan struct{}, 100), make(chan struct{}, 100)}
	refusing := w.Limits
	w.Limits = limit.NewFailover(limiter, limit.NewLocal(100))
	engine := &stuck{begun: make(chan struct{}), end: make(chan struct{})}
	w.Hasher.Engine = engine
	// Only one request may wait, because the queue is told that a hash takes an hour.
	w.Hasher.Queue = hashing.NewQueue(hashing.QueueOptions{Slots: 1, Patience: 100 * time.Millisecond, HashTime: time.Hour})
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = w.guess("bob", password, address(0)) })
	<-engine.begun
	<-limiter.charges

	late := make(chan error)
	wg.Go(func() { _, err := w.guess("ada", otherPassword, ip); late <- err })
	<-limiter.charges // a request charges the rate limits only once it waits in the queue of password hashes
	_, err := w.guess("ada", otherPassword, ip)
	w.want("a request while the queue is full", err, identity.ErrBusy)
	w.want("a request that gets no slot in time", <-late, identity.ErrBusy)
	if asked, back := len(limiter.charges), len(limiter.refunds); asked != 0 || back != 1 {
		t.Errorf("refused requests led to %d charges and %d refunds, want 0 and 1", asked, back)
	}

	w.Limits = refusing
	for range 3 {
		if refused, err := w.guess("eve", otherPassword, ip); refused != 30*time.Minute {
			t.Error(err)
		}
	}
	if n := w.Hasher.Queue.Len(); n != 0 {
		t.Errorf("%d requests that the limits refused are still in the queue", n)
	}
	close(engine.end)
	wg.Wait()
}
