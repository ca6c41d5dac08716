package identity_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
)

// confirmWith confirms an email address as our page does, with the token and a password.
func (w *world) confirmWith(token, password string) error {
	return w.ConfirmEmail(w.Context(), token, &password, identity.Origin{})
}

// A stranger registers with the address of an owner, who registers too. The owner gets both links. A click
// confirms neither without the password, whichever mail comes first.
func TestConfirmEmail_OwnerOfAddressWinsOverStranger(t *testing.T) {
	for _, strangerFirst := range []bool{true, false} {
		w := newWorld(t)
		stranger := identity.NewUser{Username: "stranger", Email: "ada@example.com", Password: otherPassword}
		owner := identity.NewUser{Username: "ada", Email: "Ada@example.com", Password: password}
		both := []identity.NewUser{stranger, owner}
		if !strangerFirst {
			both[0], both[1] = owner, stranger
		}
		tokens := map[string]string{}
		for _, n := range both {
			w.want("register", w.RegisterByMail(t.Context(), n), nil)
			tokens[n.Username] = w.token(w.one(n.Email, "Confirm"))
			w.clock.pass(time.Second)
		}
		w.want("the stranger's link with the owner's password", w.confirmWith(tokens["stranger"], password), identity.ErrWrongPassword)
		for name, token := range tokens {
			w.want("a click on the link of "+name, w.verify(token), identity.ErrPasswordRequired)
		}
		if w.signsIn("stranger", otherPassword) {
			t.Error("the stranger signs in")
		}
		w.want("the owner's link with the owner's password", w.confirmWith(tokens["ada"], password), nil)
		w.want("the stranger's link", w.confirmWith(tokens["stranger"], otherPassword), identity.ErrInvalidToken)
		if !w.signsIn("ada", password) || !w.signsIn("ada@example.com", password) || w.signsIn("stranger", otherPassword) {
			t.Error("the owner must sign in, and the stranger must not")
		}
	}
}

// A stranger who got the link of an account, perhaps because its user mistyped the address, cannot guess the
// password of that account more often than anybody can.
func TestConfirmEmail_LimitsGuessesAtThePassword(t *testing.T) {
	w := newLimitedWorld(t)
	u := w.register("alice")
	typo := "mistyped@example.com"
	w.want("change", second(w.UpdateProfile(t.Context(), u.ID, identity.Profile{Email: &typo}, identity.Origin{})), nil)
	var token string
	for _, m := range w.deliver() {
		if m.To == typo {
			token = w.token(m)
		}
	}
	w.wantGuesses(10, time.Second, func(int) error { return w.confirmWith(token, otherPassword) })
	if !w.signsIn("alice", password) {
		t.Error("the guesses lock the user out")
	}
}

// A squatter has an account with an address that is not theirs. The owner of the address can get it for a
// new account and for an existing one.
func TestConfirmEmail_OwnerTakesAddressFromSquatter(t *testing.T) {
	w := newWorld(t)
	squatter := w.registerOnly("ada")
	w.want("register", w.RegisterByMail(t.Context(), identity.NewUser{Username: "owner", Email: squatter.Email, Password: otherPassword}), nil)
	w.want("confirm", w.confirmWith(w.token(w.one(squatter.Email, "Confirm")), otherPassword), nil)
	if !w.signsIn(squatter.Email, otherPassword) || w.signsIn(squatter.Email, password) || !w.signsIn("ada", password) {
		t.Error("the address must belong to its owner, and the squatter keep the rest of the account")
	}
	if u, err := w.User(t.Context(), squatter.ID); err != nil || u.Email != "" {
		t.Errorf("the squatter has %q, %v", u.Email, err)
	}

	second := w.registerOnly("bob")
	owner := w.register("carol")
	w.want("move", w.move(owner, second.Email), nil)
	if u, err := w.store.ByEmail(t.Context(), second.Email); err != nil || u.ID != owner.ID {
		t.Errorf("the address belongs to %+v, %v", u, err)
	}
}

func TestRegisterByMail_SameDataGetsAnotherLink(t *testing.T) {
	w := newLimitedWorld(t)
	alice := identity.NewUser{Username: "alice", Email: "alice@example.com", Password: password, IP: "203.0.113.7"}
	w.want("register", w.RegisterByMail(t.Context(), alice), nil)
	lost := w.token(w.one("alice@example.com", "Confirm"))
	again := alice
	again.Username, again.Email = "ALICE", "Alice@example.com"
	w.want("register again", w.RegisterByMail(t.Context(), again), nil)
	token := w.token(w.one("alice@example.com", "Confirm"))

	for why, other := range map[string]identity.NewUser{
		"another password": {Username: "alice", Email: "alice@example.com", Password: otherPassword, IP: "203.0.113.7"},
		"another address":  {Username: "alice", Email: "eve@example.com", Password: password, IP: "203.0.113.7"},
	} {
		w.want(why, w.RegisterByMail(t.Context(), other), identity.ErrUsernameTaken)
	}
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("mails %v", mails)
	}
	w.want("the lost link", w.verify(lost), identity.ErrInvalidToken)
	w.want("the other link", w.verify(token), nil)
	w.want("register after that", w.RegisterByMail(t.Context(), alice), identity.ErrUsernameTaken)

	// A stranger cannot guess the password in this way more often than by signing in.
	w.want("register", w.RegisterByMail(t.Context(), identity.NewUser{Username: "bob", Email: "bob@example.com", Password: password}), nil)
	w.wantGuesses(8, 30*time.Minute, func(int) error {
		err := w.RegisterByMail(t.Context(), identity.NewUser{Username: "bob", Email: "bob@example.com", Password: otherPassword, IP: "203.0.113.9"})
		if errors.Is(err, identity.ErrUsernameTaken) {
			return identity.ErrWrongPassword
		}
		return err
	})
}

func TestResendConfirmation_MailsLinkWhileAddressWaits(t *testing.T) {
	w := newLimitedWorld(t)
	u := w.registerOnly("alice")
	resend := func() error { return w.ResendConfirmation(t.Context(), u.ID, identity.Origin{}) }
	w.want("an address that is not confirmed", resend(), nil)
	w.want("confirm", w.verify(w.token(w.one(u.Email, "Confirm"))), nil)
	w.want("a confirmed address", resend(), nil)
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("mails %v", mails)
	}
	moved := "al@example.net"
	w.want("move", second(w.UpdateProfile(t.Context(), u.ID, identity.Profile{Email: &moved}, identity.Origin{})), nil)
	w.deliver()
	w.clock.pass(23 * time.Hour)
	w.want("a pending address", resend(), nil)
	if m := w.one(moved, "Confirm"); !strings.Contains(m.Text, "for 60 minutes") {
		t.Errorf("the link works longer than the change: %s", m.Text)
	}
	w.clock.pass(time.Hour)
	w.want("an expired change", resend(), nil)
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("mails %v", mails)
	}
	w.want("nobody", w.ResendConfirmation(t.Context(), "nobody", identity.Origin{}), identity.ErrNotFound)
	w.MailEnabled = false
	w.want("without mail", resend(), identity.ErrMailDisabled)
}

// undo returns the token in the mail to the present address of a user whose email address is changed.
func (w *world) undo(u identity.User, email string) string {
	w.Helper()
	w.want("change", second(w.UpdateProfile(w.Context(), u.ID, identity.Profile{Email: &email}, identity.Origin{})), nil)
	for _, m := range w.deliver() {
		if m.To == u.Email {
			if !strings.Contains(m.Text, "https://auth.example.com/app/v1/email-changes/undo#token=") || !strings.Contains(m.Text, "72 hours") {
				w.Errorf("mail %s", m.Text)
			}
			return w.token(m)
		}
	}
	w.Fatal("the present address got no mail")
	return ""
}

func TestUndoEmailChange_GivesAccountBackToOwner_ASVS_V7_5_1(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	token := w.undo(u, "thief@example.net")
	w.confirm(u, "thief@example.net")
	w.startSession(u)
	w.clock.pass(time.Second)
	thiefs := w.undo(identity.User{ID: u.ID, Email: "thief@example.net"}, "thief@example.org")
	w.want("a new password", second(w.ChangePassword(t.Context(), u.ID, nil, otherPassword, "", identity.Origin{})), nil)
	w.deliver()

	w.clock.pass(72*time.Hour - 2*time.Second)
	w.want("another token", second(w.UndoEmailChange(t.Context(), "x"+token)), identity.ErrInvalidToken)
	if revocation, err := w.UndoEmailChange(t.Context(), token); err != nil || revocation == 0 {
		t.Fatalf("revocation %d, %v", revocation, err)
	}
	w.want("again", second(w.UndoEmailChange(t.Context(), token)), identity.ErrInvalidToken)
	w.want("the thief's undo", second(w.UndoEmailChange(t.Context(), thiefs)), identity.ErrInvalidToken)
	got, err := w.User(t.Context(), u.ID)
	if err != nil || got.Email != u.Email || got.EmailVerifiedAt.IsZero() || got.PendingEmail != "" {
		t.Errorf("afterwards %+v, %v", got, err)
	}
	if w.active(u) != 0 || w.signsIn("alice", otherPassword) || w.signsIn("alice", password) {
		t.Error("a session or the thief's password still works")
	}
	reset := w.token(w.one(u.Email, "new"))
	w.want("the reset", second(w.CompleteReset(t.Context(), "", reset, password, identity.Origin{})), nil)
	if !w.signsIn(u.Email, password) {
		t.Error("the owner cannot sign in")
	}
}

// A stranger uses up the mails that one recipient may get because of requests for a reset.
func TestUndoEmailChange_MailsResetWhenTooManyWereRequested(t *testing.T) {
	w := newLimitedWorld(t)
	u := w.register("alice")
	token := w.undo(u, "thief@example.net")
	for range 30 {
		w.want("reset", w.RequestReset(t.Context(), u.Email), nil)
	}
	w.deliver()
	w.want("undo", second(w.UndoEmailChange(t.Context(), token)), nil)
	w.one(u.Email, "new")
}

// A thief changes the password, then asks for a change of address.
func TestUndoEmailChange_EndsPasswordFromBeforeTheChange_ASVS_V7_5_1(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	w.want("a new password", second(w.ChangePassword(t.Context(), u.ID, nil, otherPassword, "", identity.Origin{})), nil)
	w.deliver()
	token := w.undo(u, "al@example.net")
	w.want("undo", second(w.UndoEmailChange(t.Context(), token)), nil)
	if got, err := w.User(t.Context(), u.ID); err != nil || got.PendingEmail != "" || got.Email != u.Email {
		t.Errorf("afterwards %+v, %v", got, err)
	}
	if w.signsIn("alice", otherPassword) {
		t.Error("the thief's password still works")
	}
	w.deliver()
	token = w.undo(u, "al@example.net")
	w.clock.pass(72 * time.Hour)
	w.want("after 72 hours", second(w.UndoEmailChange(t.Context(), token)), identity.ErrInvalidToken)
}

// A thief confirms one address and asks for another. The notice to the first one waits until the owner has
// undone both changes.
func TestUndoEmailChange_IssuesNoUndoForLateNotice(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	token := w.undo(u, "thief@example.net")
	w.confirm(u, "thief@example.net")
	w.clock.pass(time.Second)
	other := "thief@example.org"
	w.want("another change", second(w.UpdateProfile(t.Context(), u.ID, identity.Profile{Email: &other}, identity.Origin{})), nil)
	w.clock.pass(time.Second)
	w.want("undo", second(w.UndoEmailChange(t.Context(), token)), nil)
	for _, m := range w.deliver() {
		if m.To != u.Email {
			t.Errorf("a mail to %s: %s", m.To, m.Text)
		}
	}
	w.clock.pass(time.Second)
	if w.undo(u, other) == "" {
		t.Error("a change after that cannot be undone")
	}
}

// A thief changes the address and deletes the account.
func TestDelete_TellsEarlierAddress(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	w.undo(u, "thief@example.net")
	w.confirm(u, "thief@example.net")
	w.deliver()
	w.want("delete", second(w.Delete(t.Context(), u.ID)), nil)
	if got := recipients(w.deliver()); !strings.Contains(got, u.Email) || !strings.Contains(got, "thief@example.net") {
		t.Errorf("mails to %s", got)
	}
}

// To a mail server, another spelling of an address may be the address of another person.
func TestUpdateProfile_AnotherSpellingWaitsForItsConfirmation(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	spelled := strings.ToUpper(u.Email)
	w.want("respell", second(w.UpdateProfile(t.Context(), u.ID, identity.Profile{Email: &spelled}, identity.Origin{})), nil)
	if got, err := w.User(t.Context(), u.ID); err != nil || got.Email != u.Email || got.PendingEmail != spelled {
		t.Errorf("afterwards %+v, %v", got, err)
	}
	w.confirm(u, spelled)
	if got, err := w.User(t.Context(), u.ID); err != nil || got.Email != spelled || got.PendingEmail != "" {
		t.Errorf("confirmed: %+v, %v", got, err)
	}
}

// A thief asks for a change and waits until nobody can undo it. By then, the change cannot be confirmed.
func TestEmailChange_ExpiresBeforeItsUndo(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	moved := "thief@example.net"
	w.want("change", second(w.UpdateProfile(t.Context(), u.ID, identity.Profile{Email: &moved}, identity.Origin{})), nil)
	w.deliver()
	w.clock.pass(24*time.Hour - time.Second)
	w.want("resend", w.ResendConfirmation(t.Context(), u.ID, identity.Origin{}), nil)
	token := w.token(w.one(moved, "Confirm"))
	w.clock.pass(time.Second)
	w.want("the link", w.verify(token), identity.ErrInvalidToken)
	if got, err := w.User(t.Context(), u.ID); err != nil || got.Pending(w.clock.Now()) != "" {
		t.Errorf("afterwards %+v, %v", got, err)
	}
}

// A user changes the address to and fro twice a second. Nobody confirmed any of the addresses.
func TestEmailChange_DoesNotFloodStrangers_ASVS_V2_3_2(t *testing.T) {
	w := newLimitedWorld(t)
	u := w.registerOnly("alice")
	limited := 0
	for i := range 100 {
		to := []string{"victim@example.net", "other@example.net"}[i%2]
		if _, err := w.UpdateProfile(t.Context(), u.ID, identity.Profile{Email: &to}, identity.Origin{}); retryOf(err) > 0 {
			limited++
		}
		w.clock.pass(500 * time.Millisecond)
	}
	if limited != 97 {
		t.Errorf("%d of 100 changes were limited, want 97", limited)
	}
	if got := recipients(w.deliver()); strings.Count(got, " ") > 2 || strings.Contains(got, u.Email) {
		t.Errorf("mails to %s", got)
	}
}

// An address that another user has confirmed is refused, and so is the question for many of them.
func TestUpdateProfile_LimitsQuestionsForTakenAddresses(t *testing.T) {
	w := newLimitedWorld(t)
	u, other := w.register("alice"), w.register("bob")
	for i := range 4 {
		_, err := w.UpdateProfile(t.Context(), u.ID, identity.Profile{Email: &other.Email}, identity.Origin{})
		w.want(fmt.Sprint("question ", i+1), err, map[bool]error{true: identity.ErrEmailTaken, false: identity.ErrLimited}[i < 3])
	}
}

func TestNotices_GoOnlyToConfirmedAddresses(t *testing.T) {
	w := newWorld(t)
	for _, confirmed := range []bool{false, true} {
		u := w.registerOnly("alice")
		if confirmed {
			u = w.confirm(u, u.Email)
		}
		w.want("password", second(w.ChangePassword(t.Context(), u.ID, nil, otherPassword, "", identity.Origin{})), nil)
		w.want("delete", second(w.Delete(t.Context(), u.ID)), nil)
		if got := len(w.deliver()); got != map[bool]int{true: 2}[confirmed] {
			t.Errorf("confirmed: %t: %d mails", confirmed, got)
		}
	}
}

// One account causes notices all day long, and many accounts cause mails to one recipient.
func TestMails_AreBoundedPerRecipientAndAccount_ASVS_V2_3_2(t *testing.T) {
	w := newLimitedWorld(t)
	u := w.register("alice")
	for range 30 {
		w.want("password", second(w.ChangePassword(t.Context(), u.ID, nil, password, "", identity.Origin{})), nil)
	}
	if n := len(w.deliver()); n != 12 {
		t.Errorf("%d notices of one kind, want 12", n)
	}
	w.want("another kind", w.store.Enqueue(t.Context(), mail.Envelope{Kind: mail.KindTokenTheft, UserID: u.ID, To: u.Email}, w.clock.Now()), nil)
	w.one(u.Email, "signed you out")
	w.clock.pass(5 * time.Minute)
	for range 2 {
		w.want("password", second(w.ChangePassword(t.Context(), u.ID, nil, password, "", identity.Origin{})), nil)
	}
	w.one(u.Email, "password was changed")

	for i := range 30 {
		w.want("register", w.RegisterByMail(t.Context(), identity.NewUser{
			Username: fmt.Sprint("user", i), Email: "victim@example.com", Password: password, IP: address(i),
		}), nil)
	}
	if n := len(w.deliver()); n != 12 {
		t.Errorf("%d confirmation mails to one recipient, want 12", n)
	}
}

// A stranger sends a request every two seconds for twelve minutes, in each of three ways. The owner, on a
// new device, then asks for a reset for the first time.
func TestReset_OwnersFirstRequestIsMailedUnderAttack_ASVS_V6_3_1(t *testing.T) {
	reset := func(w *world, ip string) error {
		if _, err := w.Admit(w.Context(), limit.ActionReset, "alice@example.com", identity.Origin{IP: ip}); err != nil {
			return err
		}
		return w.RequestReset(w.Context(), "alice@example.com")
	}
	for _, c := range []struct {
		why    string
		attack func(w *world, i int) error
		fresh  bool // whether the owner's request is mailed itself
	}{
		{"registrations with the owner's address", func(w *world, i int) error {
			return w.RegisterByMail(w.Context(), identity.NewUser{Username: fmt.Sprint("user", i), Email: "alice@example.com", Password: password, IP: address(i)})
		}, true},
		{"resets from one address", func(w *world, _ int) error { return reset(w, "198.51.100.7") }, true},
		{"resets from many addresses", func(w *world, i int) error { return reset(w, address(i)) }, false},
	} {
		w := newLimitedWorld(t)
		w.register("alice")
		var mails []mail.Message
		for i := range 360 {
			if err := c.attack(w, i); err != nil && retryOf(err) == 0 {
				t.Fatal(err)
			}
			mails = append(mails, w.deliver()...)
			w.clock.pass(2 * time.Second)
		}
		if len(mails) > 15 {
			t.Errorf("%s: %d mails to the owner, want at most 12 and one more every 5 minutes", c.why, len(mails))
		}
		w.want(c.why, reset(w, "203.0.113.7"), nil)
		got := w.deliver()
		if (len(got) == 1) != c.fresh {
			t.Errorf("%s: %d mails after the owner's request", c.why, len(got))
		}
		mails = append(mails, got...)
		w.want(c.why+": the latest link", second(w.CheckReset(t.Context(), w.token(mails[len(mails)-1]))), nil)
	}
}

// A stranger's username must not reach the owner of an address in a mail of ours.
func TestMails_HoldNoTextOfAUser_ASVS_V1_2_1_V1_3_7(t *testing.T) {
	w := newWorld(t)
	const lure = "Win 1000 at evil.example"
	n := identity.NewUser{Username: lure, Email: "victim@example.com", Password: password, FirstName: lure, LastName: lure}
	w.want("register", second(w.Register(t.Context(), n)), nil)
	n.Username += "2"
	w.want("register by mail", w.RegisterByMail(t.Context(), n), nil)
	w.want("reset", w.RequestReset(t.Context(), n.Email), nil)
	u, err := w.store.ByUsername(t.Context(), lure)
	if err != nil {
		t.Fatal(err)
	}
	mails := w.deliver()
	u = w.confirm(u, u.Email)
	w.want("move", w.move(u, "thief@example.net"), nil)
	w.want("password", second(w.ChangePassword(t.Context(), u.ID, nil, otherPassword, "", identity.Origin{})), nil)
	w.want("theft", w.store.Enqueue(t.Context(), mail.Envelope{Kind: mail.KindTokenTheft, UserID: u.ID, To: u.Email}, w.clock.Now()), nil)
	n.Username, n.Email = n.Username+"3", "thief@example.net"
	w.want("register by mail", w.RegisterByMail(t.Context(), n), nil)
	w.want("delete", second(w.Delete(t.Context(), u.ID)), nil)
	mails = append(mails, w.deliver()...)
	if len(mails) < 7 {
		t.Errorf("%d mails, want at least 7 kinds", len(mails))
	}
	for _, m := range mails {
		if text := m.Subject + m.Text + m.HTML; strings.Contains(text, "evil") || strings.Contains(text, "Win") {
			t.Errorf("a mail holds the text of a user:\n%s", text)
		}
	}
}
