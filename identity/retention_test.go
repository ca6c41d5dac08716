package identity_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
)

func TestRetention_RemovesFailedLoginsAfter90Days(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	for range 3 {
		w.signsIn("alice", otherPassword)
		w.signsIn("bob", otherPassword)
		w.clock.pass(45 * 24 * time.Hour)
	}
	r := &identity.Retention{Store: w.store, Now: w.clock.Now, Log: w.Log}
	w.clock.pass(-time.Second) // now the second of three failed logins is one second less than 90 days old
	w.want("remove", r.Remove(t.Context()), nil)
	if n := len(w.failures(u)); n != 2 {
		t.Errorf("%d failed logins are left, want 2", n)
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
		attempts, pending []int
		err               error
	}{
		{"nothing is old", []int{0}, []int{0}, nil},
		{"full batches and a part", []int{1000, 1000, 3}, []int{1000, 0}, nil},
		{"the store fails", []int{0}, []int{0}, identity.ErrUnavailable},
	} {
		store := &batches{attempts: c.attempts, pending: c.pending, err: c.err, done: make(chan struct{})}
		r := &identity.Retention{Store: store, Now: w.clock.Now, Log: w.Log}
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

// batches is a store whose calls report numbers of removed rows: each call the next number of a list.
type batches struct {
	identity.Store
	err  error
	done chan struct{} // closed when each number of both lists was reported

	mu                sync.Mutex
	attempts, pending []int
}

func (b *batches) ForgetAttempts(_ context.Context, _ time.Time, limit int) (int, error) {
	return b.remove(&b.attempts, limit)
}

func (b *batches) ForgetPending(_ context.Context, _ time.Time, limit int) (int, error) {
	return b.remove(&b.pending, limit)
}

func (b *batches) ForgetUndos(context.Context, time.Time, int) (int, error) { return 0, nil }

func (b *batches) remove(from *[]int, limit int) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := (*from)[0] // panics if Run makes more calls than the test case has numbers
	*from = (*from)[1:]
	if len(b.attempts)+len(b.pending) == 0 {
		close(b.done)
	}
	return min(n, limit), b.err
}

func (b *batches) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.attempts) + len(b.pending)
}
