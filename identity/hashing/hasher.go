package hashing

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of the bcrypt cost. Below MinCost, it is cheap to find the passwords of stolen hashes. Above
// MaxCost, one login keeps a core busy for more than a second, so a few clients could stop all others.
const (
	MinCost = 10
	MaxCost = 14
)

// Hasher makes and verifies password hashes. It is safe for concurrent use.
//
// bcrypt reads at most 72 bytes, and repeats a shorter password with a NUL byte in between. To bcrypt,
// two different passwords can therefore be the same. So bcrypt hashes a pre-hash of the password: the
// base64 of its HMAC-SHA-384, keyed with a [Pepper]. Pre-hashes have 64 characters, none of them NUL,
// and those of different passwords differ.
type Hasher struct {
	// Queue bounds how many requests hash at once. If Queue is nil, their number is not bounded.
	Queue *Queue
	// Engine computes the hashes. If Engine is nil, x/crypto computes them in this process.
	Engine Engine
	// Span, if not nil, starts a span of a trace: "password.queue" while a request waits for a slot of
	// the Queue, and "password.hash" while it hashes. The function that Span returns ends the span.
	Span func(ctx context.Context, name string) (context.Context, func(error))

	cost    int               // bcrypt cost of new hashes
	current string            // id of the pepper for new hashes
	peppers map[string][]byte // the keys of all peppers by id, including the peppers of older hashes
}

// Engine computes hashes. It returns bcrypt's errors, ctx's error, or [ErrUnavailable] if it computed nothing.
type Engine interface {
	// Compare returns nil if hash is a hash of secret, or else [bcrypt.ErrMismatchedHashAndPassword].
	Compare(ctx context.Context, hash, secret []byte) error
	// Generate returns a new hash of secret.
	Generate(ctx context.Context, secret []byte, cost int) ([]byte, error)
	// Derive returns the key that k derives from secret.
	Derive(ctx context.Context, k KDF, secret []byte) ([]byte, error)
}

// inProcess computes hashes with x/crypto in this process.
type inProcess struct{}

func (inProcess) Compare(_ context.Context, hash, secret []byte) error {
	return bcrypt.CompareHashAndPassword(hash, secret)
}

func (inProcess) Generate(_ context.Context, secret []byte, cost int) ([]byte, error) {
	return bcrypt.GenerateFromPassword(secret, cost)
}

func (inProcess) Derive(_ context.Context, k KDF, secret []byte) ([]byte, error) {
	return k.derive(secret)
}

// NewHasher returns a Hasher whose new hashes have a cost from [MinCost] to [MaxCost] and use the first
// pepper. Older hashes, made with another of the peppers or without one, still verify. If there are no
// peppers, the pre-hash has an empty key: it lifts bcrypt's limits but adds no secret.
func NewHasher(cost int, peppers []Pepper) (*Hasher, error) {
	return newHasher(cost, MinCost, peppers)
}

// NewInsecureHasher is NewHasher for tests, with quick but insecure costs from bcrypt's minimum of 4.
func NewInsecureHasher(cost int, peppers []Pepper) (*Hasher, error) {
	return newHasher(cost, bcrypt.MinCost, peppers)
}

func newHasher(cost, minCost int, peppers []Pepper) (*Hasher, error) {
	if cost < minCost || cost > MaxCost {
		return nil, fmt.Errorf("bcrypt cost %d: must be from %d to %d", cost, minCost, MaxCost)
	}
	h := &Hasher{cost: cost, current: publicPepper, peppers: map[string][]byte{publicPepper: nil}}
	for i, p := range peppers {
		if err := p.check(); err != nil {
			return nil, err
		}
		if _, twice := h.peppers[p.ID]; twice {
			return nil, fmt.Errorf("two peppers have the id %q: want unique ids", p.ID)
		}
		h.peppers[p.ID] = p.Key
		if i == 0 {
			h.current = p.ID
		}
	}
	return h, nil
}

// Hash waits until it may hash and then calls [Turn.Hash]. It is for programs that serve no requests.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	turn, err := h.Enter(ctx, Visitor{}, nil)
	if err != nil {
		return "", err
	}
	defer turn.Leave()
	return turn.Hash(ctx, password)
}

// CheckHash returns nil if [Turn.Verify] can compare passwords with the hash, and if the hash is good to
// import. The hash must have one of the forms that deploy/docs/operations.md lists under "Import users", costs
// within the bounds there, and a configured pepper if it names one. The error never quotes the hash.
func (h *Hasher) CheckHash(hash string) error {
	stored, err := h.parse(hash)
	if err == nil && stored.kdf != nil && stored.pepper == h.current {
		// A user who knows the own password and hash can compute the signer key.
		return fmt.Errorf("the pepper %q is a signer key: want another pepper before it, for new hashes", stored.pepper)
	}
	return err
}

func (h *Hasher) parse(hash string) (storedHash, error) {
	stored, err := parseHash(hash)
	if err != nil {
		return storedHash{}, err
	}
	key, configured := h.peppers[stored.pepper]
	switch {
	case stored.pepper != "" && !configured:
		return storedHash{}, fmt.Errorf("the hash's pepper %q is not configured", stored.pepper)
	case stored.kdf != nil && stored.kdf.firebase && len(stored.kdf.hash) != len(key):
		return storedHash{}, fmt.Errorf("fbscrypt: hash: want %d bytes, as many as the signer key has", len(key))
	}
	return stored, nil
}

// span starts a span, or does nothing if there is no trace. The caller must call end.
func (h *Hasher) span(ctx context.Context, name string) (_ context.Context, end func(error)) {
	if h.Span == nil {
		return ctx, func(error) {}
	}
	return h.Span(ctx, name)
}

func (h *Hasher) engine() Engine {
	if h.Engine == nil {
		return inProcess{}
	}
	return h.Engine
}

// prehash returns what bcrypt hashes instead of the password; see [Hasher].
func (h *Hasher) prehash(pepper, password string) []byte {
	mac := hmac.New(sha512.New384, h.peppers[pepper])
	mac.Write([]byte(password))
	return base64.StdEncoding.AppendEncode(nil, mac.Sum(nil))
}

// compare reports whether stored is a hash of the password. It takes as long as a hash at the current cost,
// unless stored has a higher cost. The result size is how long it took, in hashes at the current cost.
func (h *Hasher) compare(ctx context.Context, stored storedHash, password string) (equal bool, size float64, err error) {
	if k := stored.kdf; k != nil {
		begun := time.Now()
		key, err := h.engine().Derive(ctx, k.KDF, []byte(password))
		if err != nil {
			return false, 0, err
		}
		size, err := h.spendRest(ctx, begun, []byte(password))
		if err != nil {
			return false, 0, err
		}
		equal, err := k.matches(key, h.peppers[stored.pepper])
		return equal, size, err
	}
	secret, possible := h.prehash(stored.pepper, password), true
	if stored.plain {
		// Other systems also compared only what bcrypt reads. But some end a password at a NUL byte, and
		// bcrypt would not tell "a\x00a" from "a".
		secret, possible = []byte(password[:min(len(password), maxSecret)]), strings.IndexByte(password, 0) < 0
	}
	err = h.engine().Compare(ctx, []byte(stored.bcrypt), secret)
	if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, 0, err
	}
	equal = err == nil && possible
	return equal, max(1, math.Exp2(float64(stored.cost-h.cost))), h.spendDifference(ctx, stored.cost, secret)
}

// spendDifference makes the check of a hash with a lower cost take as long as a check at the current cost.
// It hashes once at each cost from the lower cost up to one below the current cost. Together these hashes
// take as long as the difference, because each step of the cost doubles the time.
func (h *Hasher) spendDifference(ctx context.Context, cost int, secret []byte) error {
	for ; cost < h.cost; cost++ {
		if err := h.spend(ctx, cost, secret); err != nil {
			return err
		}
	}
	return nil
}

// spendRest makes a check that began at the time begun take as long as a check at the current cost. It does not
// know how fast this machine derives keys. So it hashes at a low cost, which measures the machine, and then at the
// highest costs that fit into the rest. It returns how long the check took, in hashes at the current cost.
func (h *Hasher) spendRest(ctx context.Context, begun time.Time, secret []byte) (size float64, err error) {
	low := max(bcrypt.MinCost, h.cost-4)
	parts, start := math.Exp2(float64(h.cost-low)), time.Now() // a part is a hash at the low cost
	for cost, hashed := low, 0.0; ; {
		if err := h.spend(ctx, cost, secret); err != nil {
			return 0, err
		}
		hashed += math.Exp2(float64(cost - low))
		part := time.Since(start).Seconds() / hashed
		done := time.Since(begun).Seconds() / part
		if done > parts-0.5 {
			return done / parts, nil
		}
		cost = low + int(math.Log2(max(1, parts-done)))
	}
}

// spend takes as long as one hash, by comparing the secret with a hash that no password matches.
func (h *Hasher) spend(ctx context.Context, cost int, secret []byte) error {
	nobody := fmt.Appendf(nil, "$2a$%02d$%s", cost, strings.Repeat(".", saltChars+digestChars))
	err := h.engine().Compare(ctx, nobody, secret)
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return nil
	}
	return err
}
