package identity_test

import (
	"testing"

	"github.com/sessiond/sessiond/identity"
)

const (
	composed   = "Z\u00fcrich im M\u00e4rz"   // as most keyboards type it
	decomposed = "Zu\u0308rich im Ma\u0308rz" // as some phones do
)

func TestAuthenticate_AcceptsPasswordInBothUnicodeForms_ASVS_V6_2_8(t *testing.T) {
	for _, registered := range []string{composed, decomposed} {
		w := newWorld(t)
		w.want("register", second(w.Register(t.Context(), identity.NewUser{Username: "alice", Email: "alice@example.com", Password: registered})), nil)
		for _, typed := range []string{composed, decomposed} {
			if !w.signsIn("alice", typed) {
				t.Errorf("registered with %+q, typed %+q: refused", registered, typed)
			}
		}
		if w.signsIn("alice", "Zurich im Marz") {
			t.Error("a password without the marks was accepted")
		}
	}
}

// A release before hashed the password as it was sent.
func TestAuthenticate_AcceptsEarlierHashOfDecomposedPassword(t *testing.T) {
	w := newWorld(t)
	u := w.addHashed("alice", decomposed)
	if !w.signsIn("alice", decomposed) {
		t.Error("the password was refused")
	}
	if !w.signsIn("alice", composed) {
		t.Error("the hash was not replaced at the first login")
	}
	if got, err := w.store.ByID(t.Context(), u.ID); err != nil || got.PasswordVersion != u.PasswordVersion {
		t.Errorf("afterwards %+v, %v", got, err)
	}
}

func TestAuthenticate_IgnoresOuterWhiteSpaceOfLogin(t *testing.T) {
	w := newWorld(t)
	w.want("register", second(w.Register(t.Context(), identity.NewUser{Username: "alice", Email: " alice@example.com ", Password: password})), nil)
	for _, login := range []string{"alice@example.com ", "\talice@example.com", "\u00a0ALICE@example.com\n", " alice", "alice\u3000"} {
		if !w.signsIn(login, password) {
			t.Errorf("%q is refused", login)
		}
	}
	if u, err := w.store.ByUsername(t.Context(), "alice"); err != nil || u.Email != "alice@example.com" {
		t.Errorf("stored %+v, %v", u, err)
	}
	if w.signsIn("alice", " "+password) {
		t.Error("white space of a password was ignored")
	}
	w.deliver()
	w.want("reset", w.RequestReset(t.Context(), " alice@example.com\n"), nil)
	if got := recipients(w.deliver()); got != "alice@example.com" {
		t.Errorf("mails to %q", got)
	}
}

func TestRegister_TakesInternationalDomainOnce(t *testing.T) {
	w := newWorld(t)
	w.want("register", second(w.Register(t.Context(), identity.NewUser{Username: "alice", Email: "info@b\u00fccher.example", Password: password})), nil)
	w.want("register again", second(w.Register(t.Context(), identity.NewUser{Username: "bob", Email: "info@xn--bcher-kva.example", Password: password})), identity.ErrEmailTaken)
	w.want("another domain", second(w.Register(t.Context(), identity.NewUser{Username: "carol", Email: "a@stra\u00dfe.example", Password: password})), nil)
	w.want("that is not the same", second(w.Register(t.Context(), identity.NewUser{Username: "dave", Email: "a@strasse.example", Password: otherPassword})), nil)
	if !w.signsIn("info@xn--bcher-kva.example", password) || !w.signsIn("A@STRASSE.example", otherPassword) || w.signsIn("a@stra\u00dfe.example", otherPassword) {
		t.Error("an address belongs to another account")
	}
}

func TestRegister_IsRefusedWhileClosed(t *testing.T) {
	w := newWorld(t)
	w.RegistrationClosed = true
	n := identity.NewUser{Username: "alice", Email: "alice@example.com", Password: password}
	w.want("register", second(w.Register(t.Context(), n)), identity.ErrRegistrationClosed)
	w.want("register by mail", w.RegisterByMail(t.Context(), n), identity.ErrRegistrationClosed)
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("mails %v", mails)
	}
}
