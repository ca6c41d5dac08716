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

// Bounds of the bcrypt cost. Below MinCost, a stolen table is cheap to search. Above MaxCost, one
// login keeps a core busy for more than a second, which is a denial of service by itself.
const (
	MinCost = 10
	MaxCost = 14
)

// Hasher makes and verifies password hashes. It is safe for concurrent use.
//
// bcrypt reads at most 72 bytes and repeats a shorter password with a NUL between, so two passwords
// can be the same to it. A password therefore first goes through HMAC-SHA-384 under a pepper. The
// base64 of that is 64 characters without NUL, and differs whenever the passwords do.
type Hasher struct {
	// Queue bounds how many requests hash at once. Nil: no bound.
	Queue *Queue
	// Engine runs bcrypt. Nil: x/crypto's bcrypt in this process.
	Engine Engine

	cost    int
	current string            // id of the pepper for new hashes
	peppers map[string][]byte // keys by id; all of them verify
}

// Engine runs bcrypt. It returns the errors of [bcrypt], [ErrUnavailable] if bcrypt could not be run,
// and ctx's error.
type Engine interface {
	// Compare returns nil if hash is a hash of secret, and [bcrypt.ErrMismatchedHashAndPassword] if
	// it is not.
	Compare(ctx context.Context, hash, secret []byte) error
	// Generate returns a new hash of secret.
	Generate(ctx context.Context, secret []byte, cost int) ([]byte, error)
}

// inProcess runs x/crypto's bcrypt in this process.
type inProcess struct{}

func (inProcess) Compare(_ context.Context, hash, secret []byte) error {
	return bcrypt.CompareHashAndPassword(hash, secret)
}

func (inProcess) Generate(_ context.Context, secret []byte, cost int) ([]byte, error) {
	return bcrypt.GenerateFromPassword(secret, cost)
}

// NewHasher returns a Hasher that hashes at a cost from [MinCost] to [MaxCost] with the first pepper.
// The other peppers still verify, and so does the public empty one. Without peppers the empty one
// also hashes: the pre-hash then lifts bcrypt's limits and adds no secret.
func NewHasher(cost int, peppers []Pepper) (*Hasher, error) {
	return newHasher(cost, MinCost, peppers)
}

// NewInsecureHasher is NewHasher for tests. Its cost may be as low as bcrypt's minimum of 4, which
// is quick and protects nothing.
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
			return nil, fmt.Errorf("pepper %q is given twice", p.ID)
		}
		h.peppers[p.ID] = p.Key
		if i == 0 {
			h.current = p.ID
		}
	}
	return h, nil
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

// CheckHash returns nil if [Turn.Verify] can work with the hash: it is one of ours under a configured
// pepper, or plain bcrypt ($2a$, $2b$ or $2y$), and its cost is at most [MaxCost]. The error never
// quotes the hash.
func (h *Hasher) CheckHash(hash string) error {
	_, err := h.parse(hash)
	return err
}

func (h *Hasher) parse(hash string) (storedHash, error) {
	stored, err := parseHash(hash)
	if err != nil {
		return storedHash{}, err
	}
	if _, configured := h.peppers[stored.pepper]; !configured && !stored.plain {
		return storedHash{}, fmt.Errorf("its pepper %q is not configured", stored.pepper)
	}
	return stored, nil
}

func (h *Hasher) engine() Engine {
	if h.Engine == nil {
		return inProcess{}
	}
	return h.Engine
}

// prehash returns what bcrypt hashes instead of the password.
func (h *Hasher) prehash(pepper, password string) []byte {
	mac := hmac.New(sha512.New384, h.peppers[pepper])
	mac.Write([]byte(password))
	return base64.StdEncoding.AppendEncode(nil, mac.Sum(nil))
}

// spendDifference takes the time by which a hash of the current cost k takes longer than one of a
// lower cost c. One hash at each of the costs c, c+1, … k-1 adds up to it.
func (h *Hasher) spendDifference(ctx context.Context, cost int, secret []byte) error {
	for ; cost < h.cost; cost++ {
		if err := h.spend(ctx, cost, secret); err != nil {
			return err
		}
	}
	return nil
}

// spend takes the time of a hash. It compares the secret with a hash that no password has.
func (h *Hasher) spend(ctx context.Context, cost int, secret []byte) error {
	nobody := fmt.Appendf(nil, "$2a$%02d$%s", cost, strings.Repeat(".", saltChars+digestChars))
	err := h.engine().Compare(ctx, nobody, secret)
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return nil
	}
	return err
}
