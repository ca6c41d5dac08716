package hashing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/text/unicode/norm"
)

// Turn is the permission of one request to hash passwords. To hash, a request needs one of the few slots
// of the [Queue]. A Turn is not safe for concurrent use.
//
// The first call of Hash, Verify or VerifyNobody frees the slot when it returns, because the rest of the
// request needs little CPU. A second call, for example to replace an outdated hash, waits for another slot.
type Turn struct {
	hasher  *Hasher
	visitor Visitor
	place   *place // the request's slot in the queue; nil if there is no queue or the slot was freed
}

// Enter waits until the [Queue] lets the request hash. Callers should call Enter before they query a
// database. Then a refused request costs no query, and a waiting request holds no database connection.
// The caller must call Leave on the returned Turn.
//
// If admit is not nil, Enter calls it after the request got a place in the queue. If admit fails, Enter
// gives up the place and returns admit's error. Enter returns a [RetryError] with [ErrBusy] if the
// queue refuses the request, and ctx's error if ctx ends first.
func (h *Hasher) Enter(ctx context.Context, v Visitor, admit func(context.Context) error) (*Turn, error) {
	t := &Turn{hasher: h, visitor: v}
	var err error
	if h.Queue != nil {
		waiting, end := h.span(ctx, "password.queue")
		t.place, err = h.Queue.enter(waiting, v, admit)
		end(err)
	} else if admit != nil {
		err = admit(ctx)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Leave frees the request's slot in the queue. Calling it a second time does nothing.
func (t *Turn) Leave() {
	if t.place != nil {
		t.place.leave()
		t.place = nil
	}
}

// Succeeded records that the client signed in. For a day, the [Queue] has places for its network that a flood
// from other networks cannot fill.
func (t *Turn) Succeeded() {
	if q := t.hasher.Queue; q != nil {
		q.mu.Lock()
		q.proven.keep(t.visitor.Network, time.Now(), provenFor)
		q.mu.Unlock()
	}
}

// Hash returns a new hash of the password to store, or ctx's error if ctx is done before bcrypt begins. It
// hashes the password in NFC, because two devices may send the same letter as different characters.
func (t *Turn) Hash(ctx context.Context, password string) (string, error) {
	h := t.hasher
	password = norm.NFC.String(password)
	var hash []byte
	err := t.work(ctx, func() (_ float64, err error) {
		hash, err = h.engine().Generate(ctx, h.prehash(h.current, password), h.cost)
		return 1, err
	})
	if err != nil {
		return "", err
	}
	return peppered(h.current, string(hash)), nil
}

// Verify reports in ok whether the hash was made of the password, in NFC or as it was sent. If so, rehash
// reports whether the caller should hash the password again, because the hash has an outdated cost, pepper
// or form. A plain bcrypt hash covers only the first 72 bytes of the password.
// Verify takes as long as [Turn.VerifyNobody], unless the hash has a higher cost than new hashes get.
//
// An error means that Verify could not decide, because ctx was done, the engine failed, or
// [Hasher.CheckHash] refuses the hash.
func (t *Turn) Verify(ctx context.Context, hash, password string) (ok, rehash bool, err error) {
	composed := norm.NFC.String(password)
	if ok, rehash, err = t.verify(ctx, hash, composed); ok || err != nil || composed == password {
		return ok, rehash, err
	}
	ok, _, err = t.verify(ctx, hash, password)
	return ok, ok, err
}

func (t *Turn) verify(ctx context.Context, hash, password string) (ok, rehash bool, err error) {
	h := t.hasher
	stored, err := h.parse(hash)
	if err != nil {
		return false, false, fmt.Errorf("verify password: the stored hash is not usable: %w", err)
	}
	err = t.work(ctx, func() (size float64, err error) {
		ok, size, err = h.compare(ctx, stored, password)
		return size, err
	})
	if err != nil || !ok {
		return false, false, err
	}
	return true, stored.pepper != h.current || stored.cost != h.cost, nil
}

// VerifyNobody takes as long as Verify takes for a hash of the current cost. Callers use it if the user
// does not exist, because a quicker answer would reveal that.
func (t *Turn) VerifyNobody(ctx context.Context, password string) error {
	h := t.hasher
	spend := func() error {
		return t.work(ctx, func() (float64, error) { return 1, h.spend(ctx, h.cost, h.prehash(h.current, password)) })
	}
	if err := spend(); err != nil || norm.NFC.String(password) == password {
		return err
	}
	return spend()
}

// work runs f while the request has a slot of the queue, and then frees the slot. It first waits for a slot
// if the request has none. Every hash goes through work. The function f returns the size of its work, in
// hashes at the current cost.
func (t *Turn) work(ctx context.Context, f func() (size float64, err error)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	if t.place == nil {
		again, err := t.hasher.Enter(ctx, t.visitor, nil)
		if err != nil {
			return err
		}
		t.place = again.place
	}
	defer t.Leave()
	_, end := t.hasher.span(ctx, "password.hash")
	begun := time.Now()
	size, err := f()
	end(err)
	if t.place != nil && !errors.Is(err, ErrUnavailable) { // ErrUnavailable: nothing was hashed, so there is no hash time to record
		t.place.hashed(time.Since(begun), max(1, size))
	}
	return err
}
