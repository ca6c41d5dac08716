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

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
)

var errServerDown = errors.New("connection refused")

func TestPostman_RetriesUntilTheMailServerAcceptsTheMail(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
	var tokens []string
	w.mailbox.refuseWith(func(m mail.Message) error {
		tokens = append(tokens, w.token(m))
		return fmt.Errorf("rejected: %s", m.Text) // like a spam filter that quotes the text of the mail in its error
	})
	waits := []time.Duration{0, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}
	for i, wait := range waits {
		if wait > 0 {
			w.clock.pass(wait - time.Millisecond)
			w.deliver()
			if len(tokens) != i {
				t.Fatalf("attempt %d was made too early", i+1)
			}
			w.clock.pass(time.Millisecond)
		}
		w.deliver()
		if len(tokens) != i+1 {
			t.Fatalf("attempt %d was not made", i+1)
		}
	}
	w.mailbox.refuseWith(nil)
	w.deliver() // sends nothing, because no mail is due yet
	w.clock.pass(32 * time.Second)
	delivered := w.token(w.one("alice@example.com", "new"))
	w.want("the delivered token", second(w.CheckReset(t.Context(), delivered)), nil)
	w.clock.pass(24 * time.Hour)
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("delivered again: %v", mails)
	}
	log := w.log.String()
	for _, token := range append(tokens, delivered) {
		if strings.Contains(log, token) {
			t.Error("the log contains a token")
		}
	}
	if strings.Count(log, "tried again") != len(waits) {
		t.Errorf("log: %s", log)
	}
}

func TestPostman_LogsNoRecipientOfFailedMails(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	w.mailbox.refuseWith(func(m mail.Message) error {
		return fmt.Errorf("550 <%s>: %s is not here: %w", m.To, strings.ToUpper(m.To), mail.ErrRejected)
	})
	w.want("a reset", w.RequestReset(t.Context(), "Alice@example.com"), nil)
	w.deliver()
	w.want("a deletion", second(w.Delete(t.Context(), u.ID)), nil)
	w.deliver()
	log := w.log.String()
	if strings.Contains(strings.ToLower(log), "alice") || strings.Count(log, "550") != 2 {
		t.Errorf("log: %s", log)
	}
}

func TestPostman_DropsUnsentResetMailAfterAnHourAndOtherMailAfterADay(t *testing.T) {
	for _, c := range []struct {
		why   string
		queue func(w *world, u identity.User) error
		after time.Duration
	}{
		{"a reset after an hour", func(w *world, _ identity.User) error {
			return w.RequestReset(w.Context(), "alice@example.com")
		}, time.Hour},
		{"another mail after a day", func(w *world, u identity.User) error {
			return second(w.ChangePassword(w.Context(), u.ID, nil, password, "", identity.Origin{}))
		}, 24 * time.Hour},
	} {
		w := newWorld(t)
		w.want("queue", c.queue(w, w.register("alice")), nil)
		attempts, last := 0, w.clock.Now()
		w.mailbox.refuseWith(func(mail.Message) error {
			attempts, last = attempts+1, w.clock.Now()
			return errServerDown
		})
		begin := w.clock.Now()
		for w.clock.Now().Before(begin.Add(2 * c.after)) {
			w.deliver()
			w.clock.pass(c.after / 144) // 10 minutes if c.after is a day; the Postman never waits longer between two attempts
		}
		if lasted := last.Sub(begin); lasted > c.after || lasted < c.after*2/3 || attempts < 5 {
			t.Errorf("%s: %d attempts in %v", c.why, attempts, lasted)
		}
		w.mailbox.refuseWith(nil)
		if mails := w.deliver(); len(mails) != 0 {
			t.Errorf("%s: delivered %v", c.why, mails)
		}
		if log := w.log.String(); strings.Count(log, "mail dropped") != 1 {
			t.Errorf("%s: log %s", c.why, log)
		}
	}
}

func TestPostman_DropsResetMailIfNoUserHasTheAddressOrMailIsOld(t *testing.T) {
	for _, c := range []struct {
		why    string
		happen func(w *world, u identity.User) error
		want   []string // parts of the subjects of the mails that are sent
	}{
		{"nothing happened", func(*world, identity.User) error { return nil }, []string{"Choose a new"}},
		{"the user was deleted", func(w *world, u identity.User) error {
			return second(w.Delete(w.Context(), u.ID))
		}, []string{"was deleted"}},
		{"the user has another email address", func(w *world, u identity.User) error {
			return w.move(u, "al@example.net")
		}, []string{"another address"}},
		{"the user wants another email address", func(w *world, u identity.User) error {
			moved := "al@example.net"
			return second(w.UpdateProfile(w.Context(), u.ID, identity.Profile{Email: &moved}, identity.Origin{}))
		}, []string{"Choose a new", "another address", "Confirm"}},
		{"another user has the email address now", func(w *world, u identity.User) error {
			return errors.Join(w.move(u, "al@example.net"), w.move(w.register("bob"), "alice@example.com"))
		}, []string{"Choose a new", "another address", "another address"}},
		{"the user changed the spelling of the email address", func(w *world, u identity.User) error {
			spelling := "ALICE@example.com"
			return second(w.UpdateProfile(w.Context(), u.ID, identity.Profile{Email: &spelling}, identity.Origin{}))
		}, []string{"Choose a new", "another address", "Confirm"}},
		{"the mail was not delivered for more than an hour", func(w *world, _ identity.User) error {
			w.clock.pass(time.Hour + time.Second)
			return nil
		}, nil},
	} {
		w := newWorld(t)
		u := w.register("alice")
		w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
		w.want(c.why, c.happen(w, u), nil)
		mails := w.deliver()
		if len(mails) != len(c.want) {
			t.Errorf("%s: delivered %v", c.why, mails)
			continue
		}
		for _, m := range mails { // the mails arrive in any order, because they are sent concurrently
			if !slices.ContainsFunc(c.want, func(want string) bool { return strings.Contains(m.Subject, want) }) {
				t.Errorf("%s: delivered %q", c.why, m.Subject)
			}
		}
	}
}

// move changes a user's email address and confirms the new one.
func (w *world) move(u identity.User, email string) error {
	w.Helper()
	if _, err := w.UpdateProfile(w.Context(), u.ID, identity.Profile{Email: &email}, identity.Origin{}); err != nil {
		return err
	}
	w.confirm(u, email)
	return nil
}

// The user changes the email address after the mail delivery (Postman) has read the user, but before it has
// sent the mail.
func TestPostman_SendsNoLinkToAnAddressThatJustChanged(t *testing.T) {
	for _, c := range []struct {
		why   string
		queue func(w *world) error
	}{
		{"a reset", func(w *world) error {
			w.register("alice")
			return w.RequestReset(w.Context(), "alice@example.com")
		}},
		{"a confirmation", func(w *world) error {
			return w.RegisterByMail(w.Context(), identity.NewUser{Username: "alice", Email: "alice@example.com", Password: password})
		}},
	} {
		w := newWorld(t)
		w.want(c.why, c.queue(w), nil)
		w.postman.Clerk = &identity.Service{Now: w.clock.Now, Store: &overtaken{Store: w.store, change: func(u identity.User) {
			if u.Email == "alice@example.com" {
				w.want("move", w.move(u, "al@example.net"), nil)
			}
		}}}
		for _, m := range w.deliver() {
			if m.To == "alice@example.com" && !strings.Contains(m.Subject, "another address") {
				t.Errorf("%s: delivered %q to %s", c.why, m.Subject, m.To)
			}
		}
		if log := w.log.String(); !strings.Contains(log, "mail dropped") {
			t.Errorf("%s: log %s", c.why, log)
		}
	}
}

// overtaken is a store that calls change just after it has read a user.
type overtaken struct {
	identity.Store
	change func(identity.User)
}

func (o *overtaken) ByEmail(ctx context.Context, email string) (identity.User, error) {
	u, err := o.Store.ByEmail(ctx, email)
	o.change(u)
	return u, err
}

func (o *overtaken) ByID(ctx context.Context, id string) (identity.User, error) {
	u, err := o.Store.ByID(ctx, id)
	o.change(u)
	return u, err
}

func TestPostman_MailThatCannotBeSentDoesNotBlockOtherMail(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
	w.mailbox.refuseWith(func(mail.Message) error { return fmt.Errorf("550: %w", mail.ErrRejected) })
	w.deliver()
	w.mailbox.refuseWith(nil)
	w.clock.pass(time.Minute)
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("a rejected address was tried again: %v", mails)
	}

	for _, m := range []mail.Envelope{
		{Kind: mail.KindPasswordChanged, UserID: u.ID},
		{Kind: "unheard_of", UserID: u.ID, To: "alice@example.com"}, // an unknown kind of mail, as if queued by a newer release of the service
		{Kind: mail.KindTokenTheft, UserID: u.ID, To: "alice@example.com"},
	} {
		w.want("queue", w.store.Enqueue(t.Context(), m, w.clock.Now()), nil)
	}
	w.one("alice@example.com", "signed you out")
	w.clock.pass(time.Hour)
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("delivered %v", mails)
	}
}

func TestPostman_DropsAllMailIfNoMailServerIsConfigured(t *testing.T) {
	w := newWorld(t)
	w.MailEnabled = false
	u := w.register("alice")
	w.want("change", second(w.ChangePassword(t.Context(), u.ID, nil, password, "", identity.Origin{})), nil)
	w.postman.Mailer = nil
	w.deliver()
	w.postman.Mailer = w.mailbox
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("the mail is still in the outbox: %v", mails)
	}
}

func TestPostman_ReplicasSendEachMailOnce(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	const queued = 40
	for range queued {
		w.want("queue", w.store.Enqueue(t.Context(), mail.Envelope{Kind: mail.KindTokenTheft, To: "alice@example.com"}, w.clock.Now()), nil)
	}
	sent := make([]int, 4)
	var all sync.WaitGroup
	for i := range sent {
		replica := &mail.Postman{Outbox: w.store, Clerk: w, Mailer: w.mailbox, Now: w.clock.Now, PublicURL: w.postman.PublicURL, Log: w.postman.Log}
		all.Go(func() {
			var err error
			if sent[i], err = replica.Deliver(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	total := sent[0] + sent[1] + sent[2] + sent[3]
	if arrived := len(w.mailbox.take()); total != queued || arrived != queued {
		t.Errorf("the replicas sent %v mails, %d arrived, want %d", sent, arrived, queued)
	}
}

func TestPostman_MailSentDuringShutdownIsNotSentAgain(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
	ctx, stop := context.WithCancel(t.Context())
	w.mailbox.hook = stop
	if n, err := w.postman.Deliver(ctx); n != 1 || err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("sent %d, %v", n, err)
	}
	w.mailbox.take()
	w.clock.pass(10 * time.Minute)
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("sent again: %v", mails)
	}
}

func TestPostman_SendsMailOfDeadReplicaAfterItsClaimExpires(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
	claimed, err := w.store.DueMail(t.Context(), w.clock.Now(), time.Minute, 8) // claims the mail and never sends it, like a replica that dies
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	if mails := w.deliver(); len(mails) != 0 {
		t.Errorf("sent during the other replica's lease: %v", mails)
	}
	w.clock.pass(time.Minute)
	w.one("alice@example.com", "new")
}

func TestPostman_LinksLeadToTheConfiguredPages(t *testing.T) {
	w := newWorld(t)
	w.postman.ResetURL = "https://www.example.com/new-password?lang=de"
	w.postman.VerifyURL = "https://www.example.com/welcome"
	w.register("alice")
	w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
	if m := w.one("alice@example.com", "new"); !strings.Contains(m.Text, "\nhttps://www.example.com/new-password?lang=de&resetPasswordToken=") {
		t.Errorf("mail %s", m.Text)
	}
	w.want("register", w.RegisterByMail(t.Context(), identity.NewUser{Username: "bob", Email: "bob@example.com", Password: password}), nil)
	if m := w.one("bob@example.com", "Confirm"); !strings.Contains(m.Text, "\nhttps://www.example.com/welcome#token=") {
		t.Errorf("mail %s", m.Text)
	}
}

func TestPostman_RunDeliversNewMail(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	arrived := make(chan struct{}, 16)
	w.mailbox.hook = func() { arrived <- struct{}{} }
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.postman.Run(ctx)
	}()
	for range 3 {
		w.want("request", w.RequestReset(t.Context(), "alice@example.com"), nil)
		select {
		case <-arrived:
		case <-time.After(time.Minute):
			t.Fatal("no mail arrives")
		}
	}
	stop()
	<-done
}

func TestPostman_RunContinuesAfterTheOutboxFails(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	broken := &failingOutbox{Outbox: w.store, tried: make(chan struct{}, 16)}
	w.postman.Outbox = broken
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.postman.Run(ctx)
	}()
	for range 3 {
		<-broken.tried
	}
	stop()
	<-done
	if n := strings.Count(w.log.String(), "outbox"); n != 1 {
		t.Errorf("the failure was logged %d times, want once: %s", n, w.log.String())
	}
}

// failingOutbox is an outbox that does not answer.
type failingOutbox struct {
	mail.Outbox
	tried chan struct{}
}

func (f *failingOutbox) DueMail(context.Context, time.Time, time.Duration, int) ([]mail.Envelope, error) {
	f.tried <- struct{}{}
	return nil, identity.ErrUnavailable
}
