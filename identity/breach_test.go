package identity_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
)

// breaches is a BreachList with one password, which is in the field known. It records the passwords that it
// was asked about.
type breaches struct {
	known string
	err   error
	asked []string
	hook  func()
}

func (b *breaches) Contains(_ context.Context, password string) (bool, error) {
	b.asked = append(b.asked, password)
	if b.hook != nil {
		b.hook()
	}
	return b.err == nil && password == b.known, b.err
}

// breachAnswers is an Observer that records whether new passwords were found on the list of breached passwords.
type breachAnswers struct{ got []string }

func (b *breachAnswers) Breached(answer string)   { b.got = append(b.got, answer) }
func (*breachAnswers) Limited(string, bool, bool) {}
func (*breachAnswers) Refused(_, _, _ string)     {}
func (*breachAnswers) Finished(_, _ string)       {}

const breached = "tr0ub4dor&3 and more"

// settingPasswords returns a function for each way in which a user can set a new password.
func (w *world) settingPasswords() map[string]func(password string) error {
	u := w.register("alice")
	w.want("request", w.RequestReset(w.Context(), "alice@example.com"), nil)
	token := w.token(w.one("alice@example.com", "new"))
	return map[string]func(string) error{
		"register": func(p string) error {
			return second(w.Register(w.Context(), identity.NewUser{Username: "bob", Email: "bob@example.com", Password: p}))
		},
		"register by mail": func(p string) error {
			return w.RegisterByMail(w.Context(), identity.NewUser{Username: "carol", Email: "carol@example.com", Password: p})
		},
		"change": func(p string) error {
			return second(w.ChangePassword(w.Context(), u.ID, nil, p, "", identity.Origin{}))
		},
		"reset": func(p string) error { return second(w.CompleteReset(w.Context(), "", token, p, identity.Origin{})) },
	}
}

var errAway = errors.New("connection refused")

func TestBreaches_EveryWayToSetAPasswordRefusesBreachedPasswords_ASVS_V6_2_12(t *testing.T) {
	for _, way := range []string{"register", "register by mail", "change", "reset"} {
		w := newWorld(t)
		list, answers := &breaches{known: breached}, &breachAnswers{}
		set := w.settingPasswords()[way]
		w.Breaches, w.Observer = list, answers
		if got := codes(set(breached)); len(got) != 1 || got["password"] != "breached" {
			t.Errorf("%s: %v", way, got)
		}
		if got := codes(set("short")); got["password"] != "too_short" || len(list.asked) != 1 {
			t.Errorf("%s: %v, asked %q", way, got, list.asked)
		}
		w.want(way, set(otherPassword+" 2"), nil)
		if got := strings.Join(answers.got, " "); got != "yes no" {
			t.Errorf("%s: observed %q", way, got)
		}
	}
}

func TestBreaches_UnavailableListRefusesNewPasswordsOnlyIfCheckIsRequired(t *testing.T) {
	for _, way := range []string{"register", "register by mail", "change", "reset"} {
		w := newWorld(t)
		answers := &breachAnswers{}
		set := w.settingPasswords()[way]
		w.Breaches, w.Observer, w.BreachesRequired = &breaches{err: errAway}, answers, true
		w.want(way+", required", set(otherPassword), identity.ErrUnavailable)
		if got := codes(set("password1")); got["password"] != "too_common" {
			t.Errorf("%s: %v", way, got)
		}
		w.BreachesRequired = false
		if got := codes(set("password1")); got["password"] != "too_common" {
			t.Errorf("%s: %v", way, got)
		}
		w.want(way, set(otherPassword), nil)
		if got := strings.Join(answers.got, " "); got != "unavailable unavailable" {
			t.Errorf("%s: observed %q", way, got)
		}
	}
}

func TestBreaches_UnavailableListIsLoggedOnceAMinute(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	w.Breaches = &breaches{err: errAway}
	warned := func(after time.Duration, want int) {
		t.Helper()
		w.clock.pass(after)
		w.want("change", second(w.ChangePassword(t.Context(), u.ID, nil, otherPassword, "", identity.Origin{})), nil)
		log := w.log.String()
		if got := strings.Count(log, "not checked for breaches"); got != want || strings.Contains(log, otherPassword) {
			t.Errorf("warned %d times, want %d: %s", got, want, log)
		}
	}
	warned(0, 1)
	warned(time.Minute-time.Microsecond, 1)
	warned(time.Microsecond, 2)
}

func TestBreaches_ObserverGetsNoResultOfCanceledCheck(t *testing.T) {
	w := newWorld(t)
	answers := &breachAnswers{}
	ctx, leave := context.WithCancel(t.Context())
	w.Breaches, w.Observer = &breaches{err: errAway, hook: leave}, answers
	w.want("register", w.RegisterByMail(ctx, identity.NewUser{Username: "bob", Email: "bob@example.com", Password: password}), context.Canceled)
	if len(answers.got) != 0 {
		t.Errorf("observed %q", answers.got)
	}
}

// A registration checks the password for breaches before it looks up the username and email address.
// Otherwise the result could reveal which of them are taken. A request with a wrong password or token must
// not check the new password for breaches.
func TestBreaches_CheckDoesNotRevealTakenNames(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	list := &breaches{known: breached}
	w.Breaches = list
	for _, n := range []identity.NewUser{
		{Username: "alice", Email: "alice@example.com", Password: breached},
		{Username: "bob", Email: "alice@example.com", Password: breached},
		{Username: "bob", Email: "bob@example.com", Password: breached},
	} {
		if got := codes(w.RegisterByMail(t.Context(), n)); got["password"] != "breached" {
			t.Errorf("%s, %s: %v", n.Username, n.Email, got)
		}
	}
	if len(list.asked) != 3 {
		t.Errorf("the list was asked %d times, want 3", len(list.asked))
	}
	wrong := "wrong horse"
	w.want("change", second(w.ChangePassword(t.Context(), u.ID, &wrong, breached, "", identity.Origin{})), identity.ErrWrongPassword)
	w.want("reset", second(w.CompleteReset(t.Context(), "", "nonsense", breached, identity.Origin{})), identity.ErrInvalidToken)
	w.signsIn("alice", breached)
	if len(list.asked) != 3 {
		t.Errorf("the list was asked %d times, want 3", len(list.asked))
	}
}
