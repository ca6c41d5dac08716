package hashing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Turn is one request's turn to hash. It is not safe for concurrent use.
//
// The first Hash, Verify or VerifyNobody gives up the turn's slot, because the request then goes on
// without the CPU. A further one, for example to re-hash, queues again as the same visitor.
type Turn struct {
	hasher  *Hasher
	visitor Visitor
	place   *place // nil: it holds none
}

// Enter waits for a request's turn to hash. Callers enter before they look anything up: then a refused
// request costs nothing, and one that waits holds no connection. The caller must Leave the turn.
//
// admit, which may be nil, is called once the request has a place in the queue. If it fails, Enter gives
// up the place and returns admit's error. Enter returns a [RetryError] with [ErrBusy] if the queue
// refuses the request, and ctx's error if ctx ends first.
func (h *Hasher) Enter(ctx context.Context, v Visitor, admit func(context.Context) error) (*Turn, error) {
	t := &Turn{hasher: h, visitor: v}
	var err error
	if h.Queue != nil {
		t.place, err = h.Queue.enter(ctx, v, admit)
	} else if admit != nil {
		err = admit(ctx)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Leave ends the turn. It may be called again.
func (t *Turn) Leave() {
	if t.place != nil {
		t.place.leave()
		t.place = nil
	}
}

// Hash returns a new hash of the password in the form that is stored. It returns ctx's error if
// ctx is done before the work begins.
func (t *Turn) Hash(ctx context.Context, password string) (string, error) {
	h := t.hasher
	var hash []byte
	err := t.work(ctx, func() (err error) {
		hash, err = h.engine().Generate(ctx, h.prehash(h.current, password), h.cost)
		return err
	})
	if err != nil {
		return "", err
	}
	return peppered(h.current, string(hash)), nil
}

// Verify reports whether the password is the one that was hashed. If it is, rehash reports whether it
// should be hashed again, because the cost, the pepper or the form is no longer the current one.
// Verify takes as long as [Turn.VerifyNobody], unless the hash has a higher cost than the current one.
//
// An error means that nothing was decided: ctx was done, the engine failed, or the hash is one that
// [Hasher.CheckHash] refuses.
func (t *Turn) Verify(ctx context.Context, hash, password string) (ok, rehash bool, err error) {
	h := t.hasher
	stored, err := h.parse(hash)
	if err != nil {
		return false, false, fmt.Errorf("verify password: the stored hash: %w", err)
	}
	secret, possible := h.prehash(stored.pepper, password), true
	if stored.plain {
		// bcrypt would compare the first 72 bytes only, and take "a\x00a" for "a".
		if possible = len(password) <= maxSecret && strings.IndexByte(password, 0) < 0; possible {
			secret = []byte(password)
		}
	}
	err = t.work(ctx, func() error {
		err := h.engine().Compare(ctx, []byte(stored.bcrypt), secret)
		if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			return err
		}
		return cmp.Or(h.spendDifference(ctx, stored.cost, secret), err)
	})
	switch {
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword), err == nil && !possible:
		return false, false, nil
	case err != nil:
		return false, false, err
	}
	return true, stored.plain || stored.pepper != h.current || stored.cost != h.cost, nil
}

// VerifyNobody takes as long as verifying a hash of the current cost. Callers use it if there is no
// such user, because a quicker answer would reveal that.
func (t *Turn) VerifyNobody(ctx context.Context, password string) error {
	h := t.hasher
	return t.work(ctx, func() error {
		return h.spend(ctx, h.cost, h.prehash(h.current, password))
	})
}

// work runs f in the turn's slot and ends the turn. All bcrypt runs in here.
func (t *Turn) work(ctx context.Context, f func() error) error {
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
	begun := time.Now()
	err := f()
	if t.place != nil && !errors.Is(err, ErrUnavailable) { // the time of a hash that was not made says nothing
		t.place.hashed(time.Since(begun))
	}
	return err
}
