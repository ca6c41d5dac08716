package identity_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
)

func TestRetention_RemovesHistoryAndAddressesBeforeTheyAreTooOld(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	const ip, network = "192.0.2.7", "192.0.2.0/24"
	for range 3 {
		for _, login := range []string{"alice", "bob"} {
			if _, err := w.Authenticate(t.Context(), login, otherPassword, identity.Origin{IP: ip}); err == nil {
				t.Errorf("%s signs in with a wrong password", login)
			}
		}
		w.clock.pass(45 * 24 * time.Hour)
	}
	r := &identity.Retention{Store: w.store, History: 90 * 24 * time.Hour, Addresses: 60 * 24 * time.Hour, Now: w.clock.Now, Log: w.Log}
	addresses := func() (all []string) {
		for _, f := range w.failures(u) {
			all = append(all, f.IP)
		}
		return all
	}
	// The failed logins, newest first, are 45, 90 and 135 days old. The next call of Remove is in an hour.
	w.clock.pass(-time.Hour - time.Second)
	w.want("remove", r.Remove(t.Context()), nil)
	if got := addresses(); !slices.Equal(got, []string{ip, network}) {
		t.Errorf("failed logins are left from %v", got)
	}
	w.clock.pass(2 * time.Second)
	w.want("remove", r.Remove(t.Context()), nil)
	if got := addresses(); !slices.Equal(got, []string{ip}) {
		t.Errorf("an hour before the second is 90 days old, failed logins are left from %v", got)
	}
}

func TestRetention_KeepsEverythingWithoutLimits(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	w.signsIn("alice", otherPassword)
	w.clock.pass(10 * 365 * 24 * time.Hour)
	r := &identity.Retention{Store: w.store, Now: w.clock.Now, Log: w.Log}
	w.want("remove", r.Remove(t.Context()), nil)
	if n := len(w.failures(u)); n != 1 {
		t.Errorf("%d failed logins are left, want 1", n)
	}
}

// The verification link is mailed at most one day after the registration, and then works for one day.
func TestRetention_KeepsRegistrationWhileTheLinkMayWork(t *testing.T) {
	w := newWorld(t)
	alice := identity.NewUser{Username: "alice", Email: "alice@example.com", Password: password}
	w.want("register", w.RegisterByMail(t.Context(), alice), nil)
	u, err := w.store.ByUsername(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	w.clock.pass(24 * time.Hour)
	token := w.token(w.one("alice@example.com", "Confirm"))
	r := &identity.Retention{Store: w.store, Now: w.clock.Now, Log: w.Log}

	w.clock.pass(24 * time.Hour)
	w.want("remove", r.Remove(t.Context()), nil)
	w.want("two days later", second(w.User(t.Context(), u.ID)), nil)
	w.clock.pass(time.Microsecond)
	w.want("the link", w.verify(token), identity.ErrInvalidToken)
	w.want("remove", r.Remove(t.Context()), nil)
	w.want("after the link expired", second(w.User(t.Context(), u.ID)), identity.ErrNotFound)
}

func TestRetention_RunContinuesUntilABatchIsNotFull(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		why               string
		prunings, pending []int
		err               error
	}{
		{"nothing is old", []int{0}, []int{0}, nil},
		{"full batches and a part", []int{500, 500, 3}, []int{500, 0}, nil},
		{"the store fails", []int{0}, []int{0}, identity.ErrUnavailable},
	} {
		store := &batches{prunings: c.prunings, pending: c.pending, err: c.err, done: make(chan struct{})}
		r := &identity.Retention{Store: store, History: time.Hour, Now: w.clock.Now, Log: w.Log}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.Run(ctx)
		}()
		select {
		case <-store.done:
		case <-time.After(time.Minute):
			t.Errorf("%s: Run did not remove all batches", c.why)
		}
		stop()
		<-ended
		if store.left() != 0 {
			t.Errorf("%s: %d batches are left", c.why, store.left())
		}
	}
}

// batches is a store whose calls report numbers of removed rows: each call the next number of a list. It
// has old failed logins, but no old sessions and events.
type batches struct {
	identity.Store
	err  error
	done chan struct{} // closed when each number of both lists was reported

	mu                sync.Mutex
	prunings, pending []int
}

func (b *batches) Prune(_ context.Context, chore identity.Chore, _, _ time.Time, limit int) (bool, error) {
	if chore != identity.ForgetAttempts {
		return false, nil
	}
	n, err := b.remove(&b.prunings, limit)
	return n == limit, err
}

func (b *batches) ForgetPending(_ context.Context, _ time.Time, limit int) (int, error) {
	return b.remove(&b.pending, limit)
}

func (b *batches) ForgetUndos(context.Context, time.Time, int) (int, error) { return 0, nil }

func (b *batches) ForgetPendingEmails(context.Context, time.Time, int) (int, error) { return 0, nil }

func (b *batches) remove(from *[]int, limit int) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := (*from)[0] // panics if Run makes more calls than the test case has numbers
	*from = (*from)[1:]
	if len(b.prunings)+len(b.pending) == 0 {
		close(b.done)
	}
	return min(n, limit), b.err
}

func (b *batches) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.prunings) + len(b.pending)
}
