package hashing

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // G505: HMAC-SHA-1 in PBKDF2 has no known weakness, and imported hashes use it
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"runtime/debug"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/scrypt"
	"golang.org/x/sync/semaphore"
)

// KDF is a key derivation function with its costs. Imported hashes that are not bcrypt are keys that such a
// function derived from a password.
type KDF struct {
	Name  string   // argon2id, argon2i, scrypt, pbkdf2-sha1, pbkdf2-sha256 or pbkdf2-sha512
	Costs []uint32 // argon2: m in KiB, t, p; scrypt: ln, r, p; PBKDF2: i. The names are those of PHC strings
	Salt  []byte
	Size  int // length of the key in bytes
}

const (
	// maxMemory is the most memory in bytes that one imported hash may need.
	maxMemory = 128 << 20
	// maxTotalMemory is the most memory in bytes that all imported hashes together use in one process.
	maxTotalMemory = 2 * maxMemory

	maxSalt        = 128 // bytes
	minKey, maxKey = 16, 128
)

// memory bounds how much memory all derivations together use. A derivation waits until there is enough for it.
var memory = semaphore.NewWeighted(maxTotalMemory)

// bound is a bound of one cost, or of a product of costs.
type bound struct {
	name               string
	value, least, most uint64
}

// kdfs are the known functions. The bounds of each begin with its single costs. Without them, a product
// could overflow. A key at the bounds takes about as long as bcrypt at [MaxCost].
var kdfs = map[string]struct {
	costs  []string
	bounds func(costs []uint64, size uint64) []bound
	memory func(costs []uint64) uint64
	derive func(secret []byte, k KDF) ([]byte, error)
}{
	"argon2id": {argon2Costs, argon2Bounds, argon2Memory, argon2With(argon2.IDKey)},
	"argon2i":  {argon2Costs, argon2Bounds, argon2Memory, argon2With(argon2.Key)},
	"scrypt": {
		[]string{"ln", "r", "p"},
		func(c []uint64, _ uint64) []bound {
			return []bound{
				{"ln", c[0], 1, 20},
				{"r", c[1], 1, 1 << 20},
				{"p", c[2], 1, 1 << 20},
				{"2^ln × r", c[1] << c[0], 2, maxMemory / 128},
				{"2^ln × r × p", c[1] << c[0] * c[2], 2, 1 << 21},
			}
		},
		func(c []uint64) uint64 { return 128 * c[1] << c[0] },
		func(secret []byte, k KDF) ([]byte, error) {
			return scrypt.Key(secret, k.Salt, 1<<k.Costs[0], int(k.Costs[1]), int(k.Costs[2]), k.Size)
		},
	},
	"pbkdf2-sha1":   {pbkdf2Costs, pbkdf2Bounds(sha1.Size), noMemory, pbkdf2With(sha1.New)},
	"pbkdf2-sha256": {pbkdf2Costs, pbkdf2Bounds(sha256.Size), noMemory, pbkdf2With(sha256.New)},
	"pbkdf2-sha512": {pbkdf2Costs, pbkdf2Bounds(sha512.Size), noMemory, pbkdf2With(sha512.New)},
}

var argon2Costs, pbkdf2Costs = []string{"m", "t", "p"}, []string{"i"}

func argon2Bounds(c []uint64, _ uint64) []bound {
	m, t, p := c[0], c[1], c[2]
	return []bound{{"p", p, 1, 16}, {"m", m, 8 * p, maxMemory >> 10}, {"t", t, 1, 1 << 20}, {"m × t", m * t, 8, 1 << 20}}
}

func argon2Memory(c []uint64) uint64 { return c[0] << 10 }

func argon2With(key func(secret, salt []byte, time, memory uint32, threads uint8, size uint32) []byte) func([]byte, KDF) ([]byte, error) {
	return func(secret []byte, k KDF) ([]byte, error) {
		return key(secret, k.Salt, k.Costs[1], k.Costs[0], uint8(k.Costs[2]), uint32(k.Size)), nil //nolint:gosec // G115: check bounds both
	}
}

// pbkdf2Bounds counts the rounds of all blocks of a key, because PBKDF2 computes each block from the beginning.
func pbkdf2Bounds(block uint64) func([]uint64, uint64) []bound {
	return func(c []uint64, size uint64) []bound {
		return []bound{{"i", c[0], 1, 2_000_000}, {"i × blocks", c[0] * ((size + block - 1) / block), 1, 2_000_000}}
	}
}

func noMemory([]uint64) uint64 { return 0 }

func pbkdf2With[H hash.Hash](h func() H) func([]byte, KDF) ([]byte, error) {
	return func(secret []byte, k KDF) ([]byte, error) {
		return pbkdf2.Key(h, string(secret), k.Salt, int(k.Costs[0]), k.Size)
	}
}

// check returns an error if the function is unknown, or if one of its parameters is out of bounds. Like bcrypt
// above [MaxCost], a hash of higher costs would let a few clients stop all other logins.
func (k KDF) check() error {
	f, known := kdfs[k.Name]
	if !known || len(k.Costs) != len(f.costs) {
		return fmt.Errorf("unknown key derivation function %q with %d costs", k.Name, len(k.Costs))
	}
	bounds := append(f.bounds(k.wide(), uint64(max(0, k.Size))),
		bound{"length of the salt in bytes", uint64(len(k.Salt)), 1, maxSalt},
		bound{"length of the hash in bytes", uint64(max(0, k.Size)), minKey, maxKey})
	for _, b := range bounds {
		if b.value < b.least || b.value > b.most {
			return fmt.Errorf("%s is %d; want %d to %d", b.name, b.value, b.least, b.most)
		}
	}
	return nil
}

// wide returns the costs in a type that holds their products.
func (k KDF) wide() (costs []uint64) {
	for _, c := range k.Costs {
		costs = append(costs, uint64(c))
	}
	return costs
}

// derive returns the key of a secret. It waits while other derivations use too much memory.
func (k KDF) derive(secret []byte) ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	f := kdfs[k.Name]
	if need := int64(f.memory(k.wide())); need > 0 { //nolint:gosec // G115: check bounds the memory
		if err := memory.Acquire(context.Background(), need); err != nil {
			return nil, err
		}
		defer memory.Release(need)
		defer debug.FreeOSMemory() // before the release, because the memory would otherwise stay in use until the next collection
	}
	return f.derive(secret, k)
}
