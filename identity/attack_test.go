package identity_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
)

// heldEngine is a hash engine that does not hash before the test closes its channel let.
type heldEngine struct {
	hashing.Engine // nil; only bcrypt is used
	once           sync.Once
	begun, let     chan struct{}
}

func (e *heldEngine) hold() {
	e.once.Do(func() { close(e.begun) })
	<-e.let
}

// await waits until a request asks the engine for a hash. If all requests end before that, await fails the
// test. The channel ended receives the error of each request.
func (e *heldEngine) await(t *testing.T, ended <-chan error) {
	t.Helper()
	for {
		select {
		case <-e.begun:
			return
		default:
			if len(ended) == cap(ended) {
				t.Fatalf("every request ended before a hash began, one of them with: %v", <-ended)
			}
			runtime.Gosched()
		}
	}
}

func (e *heldEngine) Compare(_ context.Context, hash, secret []byte) error {
	e.hold()
	return bcrypt.CompareHashAndPassword(hash, secret)
}

func (e *heldEngine) Generate(_ context.Context, secret []byte, cost int) ([]byte, error) {
	e.hold()
	return bcrypt.GenerateFromPassword(secret, cost)
}

// siege is an attack that fills the queue of password hashes with logins. Each login comes from another
// client address, and from a device that the service does not know.
type siege struct {
	engine *heldEngine
	gone   chan error // receives the error of each login of the attack
}

const besiegers = 9 // number of logins of the attack: one hashes, eight wait

func besiege(t *testing.T, w *world) *siege {
	s := &siege{&heldEngine{begun: make(chan struct{}), let: make(chan struct{})}, make(chan error, besiegers)}
	w.Hasher.Queue = hashing.NewQueue(hashing.QueueOptions{Slots: 1, Patience: 16 * time.Minute, HashTime: time.Minute})
	// After a login from the attacker's network, the attacker can fill the whole queue.
	if _, err := w.Authenticate(t.Context(), "alice", password, identity.Origin{IP: "192.0.2.200"}); err != nil {
		t.Fatal(err)
	}
	w.Hasher.Engine = s.engine
	for i := range besiegers {
		go func() {
			// Each login names another account, because logins to one account may fill only a part of the
			// queue.
			_, err := w.Authenticate(t.Context(), fmt.Sprint("nobody", i), password, identity.Origin{IP: fmt.Sprint("192.0.2.", i)})
			s.gone <- err
		}()
	}
	s.engine.await(t, s.gone)
	for w.Hasher.Queue.Len() < besiegers-1 {
		runtime.Gosched()
	}
	return s
}

// admits sends a request that should evict one of the attacker's logins from the full queue. Then admits
// lets all requests hash, and returns the error of the request.
func (s *siege) admits(t *testing.T, request func() error) error {
	in := make(chan error, 1)
	go func() { in <- request() }()
	var early error
	select {
	case err := <-s.gone:
		if !errors.Is(err, identity.ErrBusy) {
			t.Errorf("the evicted login of the attack got %v", err)
		}
	case early = <-in:
		in <- early
	}
	close(s.engine.let)
	left := besiegers
	if early == nil {
		left--
	}
	for range left {
		if err := <-s.gone; !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("a login of the attack got %v", err)
		}
	}
	return <-in
}

func TestAuthenticate_KnownDeviceEvictsUnknownDeviceFromFullQueue(t *testing.T) {
	w := newWorld(t)
	w.DeviceSecret = []byte("secret")
	alice, bob := w.register("Alice"), w.register("bob")
	ofAlice, ofBob := w.DeviceToken("", alice), w.DeviceToken("", bob)
	s := besiege(t, w)
	for i, c := range []struct{ why, login, token string }{
		{"no token", "alice", ""},
		{"another user's token", "alice", ofBob},
		{"an altered token", "alice", "B" + ofAlice[1:]},
		{"a token for another login", "bob", ofAlice},
	} {
		from := identity.Origin{IP: fmt.Sprint("192.0.2.", 100+i), DeviceToken: c.token}
		_, err := w.Authenticate(t.Context(), c.login, password, from)
		if retry, ok := errors.AsType[*identity.RetryError](err); !ok || !errors.Is(err, identity.ErrBusy) || retry.After <= 0 {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	err := s.admits(t, func() error {
		u, err := w.Authenticate(t.Context(), "alice@EXAMPLE.com", password, identity.Origin{IP: "192.0.2.1", DeviceToken: ofAlice})
		if err == nil && u.ID != alice.ID {
			err = fmt.Errorf("signed in as %s", u.Username)
		}
		return err
	})
	if err != nil {
		t.Errorf("the owner's device: %v", err)
	}
}

func TestReset_ClientWithMailedTokenEvictsUnknownDeviceFromFullQueue(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	if err := w.RequestReset(t.Context(), "alice@example.com"); err != nil {
		t.Fatal(err)
	}
	token := w.token(w.one("alice@example.com", "new sessiond password"))
	s := besiege(t, w)
	err := s.admits(t, func() error {
		_, err := w.CompleteReset(t.Context(), "", token, otherPassword, identity.Origin{})
		return err
	})
	if err != nil {
		t.Errorf("the reset: %v", err)
	}
	if !w.signsIn("alice", otherPassword) {
		t.Error("the new password does not work")
	}
}

// A client with an IPv6 address can use all addresses of its /64 network. So the queue counts the requests
// of the whole network as requests of one client.
func TestQueue_OneIPv6NetworkCannotFillTheQueue(t *testing.T) {
	for why, request := range map[string]func(w *world, name, ip string) error{
		"logins": func(w *world, name, ip string) error {
			return second(w.Authenticate(t.Context(), name, password, identity.Origin{IP: ip}))
		},
		"registrations": func(w *world, name, ip string) error {
			return second(w.Register(t.Context(), identity.NewUser{Username: name, Email: name + "@example.com", Password: password, IP: ip}))
		},
		"re-authentications": func(w *world, name, ip string) error {
			u, err := w.store.ByUsername(t.Context(), name)
			if err == nil {
				_, err = w.Reauthenticate(t.Context(), u.ID, password, identity.Origin{IP: ip})
			}
			return err
		},
	} {
		w := newWorld(t)
		names := []string{"somebody"}
		for i := range besiegers {
			names = append(names, fmt.Sprint("attacker", i))
		}
		if why == "re-authentications" {
			for _, name := range names {
				w.register(name)
			}
		}
		engine := &heldEngine{begun: make(chan struct{}), let: make(chan struct{})}
		queue := hashing.NewQueue(hashing.QueueOptions{Slots: 1, Patience: 16 * time.Minute, HashTime: time.Minute})
		w.Hasher.Engine, w.Hasher.Queue = engine, queue
		gone, in := make(chan error, besiegers), make(chan error, 1)
		for i, name := range names[1:] {
			go func() { gone <- request(w, name, fmt.Sprintf("2001:db8:0:1:%x::1", i)) }()
		}
		engine.await(t, gone)
		for queue.Len()+len(gone) < besiegers-1 {
			runtime.Gosched()
		}
		waiting := queue.Len()
		go func() { in <- request(w, names[0], "2001:db8:0:2::1") }()
		for queue.Len() == waiting && len(in) == 0 {
			runtime.Gosched()
		}
		close(engine.let)
		if err := <-in; errors.Is(err, identity.ErrBusy) {
			t.Errorf("%s: while %d requests from one network wait, another client got %v", why, waiting, err)
		}
		refused := 0
		for range besiegers {
			if err := <-gone; errors.Is(err, identity.ErrBusy) {
				refused++
			}
		}
		if refused != besiegers-1-waiting {
			t.Errorf("%s: of the network's requests, %d were refused and %d waited", why, refused, waiting)
		}
	}
}
