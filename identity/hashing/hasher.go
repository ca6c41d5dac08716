package hashing

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of the bcrypt cost. Below, a stolen table is cheap to search; above,
// one login keeps a core busy for more than a second, which is a denial of
// service by itself.
const (
	MinCost = 10
	MaxCost = 14
)

// Hasher makes and verifies password hashes. It is safe for concurrent use.
//
// bcrypt reads 72 bytes at most and takes NUL for the end of a round, so that
// two passwords can be one to it. A password is therefore first put through
// HMAC-SHA-384 under a pepper and written in base64: 64 characters without NUL
// that differ whenever the passwords do.
type Hasher struct {
	// Queue bounds how many hash at once. Nil: nothing does.
	Queue *Queue
	// Engine runs bcrypt. Nil: this process does.
	Engine Engine

	cost    int
	current string            // id of the pepper that hashes
	peppers map[string][]byte // by id; all of them verify
}

// NewHasher returns a Hasher that hashes at a cost from [MinCost] to [MaxCost]
// with the first pepper. The other peppers still verify, and so does the public
// empty one, which also hashes when none is given; the pre-hash then only
// lifts bcrypt's limits and adds no secret.
func NewHasher(cost int, peppers []Pepper) (*Hasher, error) {
	if cost < MinCost || cost > MaxCost {
		return nil, fmt.Errorf("bcrypt cost %d: must be from %d to %d", cost, MinCost, MaxCost)
	}
	return newHasher(cost, peppers)
}

// NewInsecureHasher is NewHasher for tests, with a cost down to bcrypt's least,
// 4, that is quick and protects nothing.
func NewInsecureHasher(cost int, peppers []Pepper) (*Hasher, error) {
	if cost < bcrypt.MinCost || cost > MaxCost {
		return nil, fmt.Errorf("bcrypt cost %d: must be from %d to %d", cost, bcrypt.MinCost, MaxCost)
	}
	return newHasher(cost, peppers)
}

func newHasher(cost int, peppers []Pepper) (*Hasher, error) {
	h := &Hasher{
		cost:    cost,
		current: publicPepper,
		peppers: map[string][]byte{publicPepper: nil},
	}
	for i, p := range peppers {
		if err := p.check(); err != nil {
			return nil, err
		}
		if _, twice := h.peppers[p.ID]; twice {
			return nil, fmt.Errorf("pepper %q is given twice", p.ID)
		}
		h.peppers[p.ID] = p.Key
		if i == 0 {
			h.current = p.ID
		}
	}
	return h, nil
}

// nobodyHash is a hash that is no password's.
func nobodyHash(cost int) []byte {
	return fmt.Appendf(nil, "$2a$%02d$%s", cost, strings.Repeat(".", saltLength+sumLength))
}

// makeUp spends what a hash of the current cost takes beyond one of a lower cost
// s: runs of the costs s, s+1 … k-1, which with the one that was made are 2^k.
func (h *Hasher) makeUp(ctx context.Context, cost int, secret []byte) error {
	for ; cost < h.cost; cost++ {
		if err := h.spend(ctx, nobodyHash(cost), secret); err != nil {
			return err
		}
	}
	return nil
}

// spend compares with a hash that is no password's.
func (h *Hasher) spend(ctx context.Context, nobody, secret []byte) error {
	err := h.engine().Compare(ctx, nobody, secret)
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return nil
	}
	return err
}

// CheckHash tells whether Verify can work with the hash: it is one of ours
// under a pepper that is configured, or plain bcrypt ($2a$, $2b$, $2y$), and its
// cost is not above [MaxCost]. The error never quotes the hash.
func (h *Hasher) CheckHash(hash string) error {
	_, err := h.parse(hash)
	return err
}

func (h *Hasher) engine() Engine {
	if h.Engine == nil {
		return inProcess{}
	}
	return h.Engine
}

func (h *Hasher) prehash(pepper, password string) []byte {
	mac := hmac.New(sha512.New384, h.peppers[pepper])
	mac.Write([]byte(password))
	return base64.StdEncoding.AppendEncode(nil, mac.Sum(nil))
}

func (h *Hasher) parse(hash string) (storedHash, error) {
	stored, err := parseHash(hash)
	if err != nil {
		return storedHash{}, err
	}
	if _, known := h.peppers[stored.pepper]; !known && !stored.plain {
		return storedHash{}, fmt.Errorf("its pepper %q is not configured", stored.pepper)
	}
	return stored, nil
}

// Hash is [Turn.Hash] in a turn of its own, for programs that serve no requests.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	turn, err := h.Enter(ctx, Visitor{}, nil)
	if err != nil {
		return "", err
	}
	defer turn.Leave()
	return turn.Hash(ctx, password)
}
