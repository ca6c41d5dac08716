package hashing

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/blowfish" //nolint:staticcheck // SA1019: Blowfish is deprecated as a cipher, but bcrypt needs it
)

// x/crypto's bcrypt keeps a core busy for a whole hash. This file computes the same hash, with
// x/crypto's Blowfish cipher, and yields the CPU every few rounds of bcrypt, about every 0.25 ms. A
// low priority alone is not enough: a thread that just woke up, for example to check a token, may
// have to wait for the kernel's next tick, up to 4 ms (see deploy/docs/decisions/0012).
//
// On a machine that is always busy, a hash that always yields would get almost no CPU. When a hash has
// taken more than farBehind times as long as on an idle machine, it yields only about every 1.5 ms, and
// leaves the lowest priority for that of its process.
const (
	yieldEvery  = 4 // rounds of bcrypt between two yields of the CPU
	farBehind   = 10
	insistEvery = 24 // rounds between two yields when the hash has taken much longer than usual
)

// implementation is one way to run bcrypt. If idle is set, it may hash only when nothing else wants the CPU.
type implementation struct {
	compare  func(hash, secret []byte, idle bool) error
	generate func(secret []byte, cost int, idle bool) ([]byte, error)
}

var (
	yielding = implementation{compare, generate}
	xcrypto  = implementation{
		func(hash, secret []byte, _ bool) error { return bcrypt.CompareHashAndPassword(hash, secret) },
		func(secret []byte, cost int, _ bool) ([]byte, error) {
			return bcrypt.GenerateFromPassword(secret, cost)
		},
	}
)

// knownAnswers are secrets and the hashes that x/crypto's bcrypt made of them.
var knownAnswers = []struct{ secret, hash string }{
	{"", "$2a$04$nfDs5QMXHY6c6k6voDh.ee7ocid2tXwdYo6cGCK7lOCM1uQGmoo7."},
	{"correct horse battery staple", "$2a$04$.GgXeDCVJ.pNkpUDELJOdOlWTS73F9q13pyhBUEDTACc1Kuexi8ei"},
	{"\xff\xa3 and\x00zero", "$2a$04$V8Z3s9SpfeX58Be4BmSoJuLOxBZvWNF7E5g3DSRtPmva8zRjLzHrW"},
	{string(bytes.Repeat([]byte("y"), maxSecret)), "$2a$04$SKPRdrHCs7CoM2QXPBwHC.rml/oxNlMOwUXvM7qRoFg.rufBG3toK"},
}

// check returns an error if the implementation and x/crypto have different results for the knownAnswers.
func (i implementation) check() error {
	for n, known := range knownAnswers {
		for _, secret := range []string{known.secret, known.secret + "x"} {
			want := bcrypt.CompareHashAndPassword([]byte(known.hash), []byte(secret))
			if got := i.compare([]byte(known.hash), []byte(secret), false); !errors.Is(got, want) {
				return fmt.Errorf("check of bcrypt, known answer %d: compare returned %s, want %s", n, fmt.Sprint(got), fmt.Sprint(want))
			}
		}
		made, err := i.generate([]byte(known.secret), bcrypt.MinCost, false)
		if err == nil {
			err = bcrypt.CompareHashAndPassword(made, []byte(known.secret))
		}
		if err != nil {
			return fmt.Errorf("check of bcrypt, known answer %d: x/crypto does not accept a new hash of the secret: %w", n, err)
		}
	}
	return nil
}

// compare does the same as [bcrypt.CompareHashAndPassword].
func compare(hash, secret []byte, idle bool) error {
	cost, err := bcrypt.Cost(hash)
	if err != nil {
		return err
	}
	rest := hash[bytes.LastIndexByte(hash, '$')+1:]
	if len(rest) < saltChars {
		return bcrypt.ErrHashTooShort
	}
	salt, err := bcryptBase64.DecodeString(string(rest[:saltChars]))
	if err != nil {
		return fmt.Errorf("the salt of the bcrypt hash is not base64: %w", err)
	}
	sum, err := digest(secret, salt, cost, idle)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(sum, rest[saltChars:]) != 1 {
		return bcrypt.ErrMismatchedHashAndPassword
	}
	return nil
}

// generate does the same as [bcrypt.GenerateFromPassword], but returns an error for too low a cost.
func generate(secret []byte, cost int, idle bool) ([]byte, error) {
	if cost < bcrypt.MinCost || cost > bcrypt.MaxCost {
		return nil, bcrypt.InvalidCostError(cost)
	}
	if len(secret) > maxSecret {
		return nil, bcrypt.ErrPasswordTooLong
	}
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	sum, err := digest(secret, salt, cost, idle)
	return fmt.Appendf(nil, "$2a$%02d$%s%s", cost, bcryptBase64.EncodeToString(salt), sum), err
}

func digest(secret, salt []byte, cost int, idle bool) ([]byte, error) {
	r, err := begin(secret, salt, cost)
	if err != nil {
		return nil, fmt.Errorf("bcrypt: %w", err)
	}
	r.finish(idle)
	return r.sum(), nil
}

// rounds computes one bcrypt hash, which has 2^cost rounds.
type rounds struct {
	cipher     *blowfish.Cipher
	key, salt  []byte
	done, left int // numbers of rounds that are finished and that remain
	begun      time.Time
	quickest   time.Duration // time of the quickest round: how long a round takes on an idle machine
}

func begin(secret, salt []byte, cost int) (*rounds, error) {
	key := append(bytes.Clone(secret), 0) // bcrypt also hashes the NUL byte with which a C string ends
	c, err := blowfish.NewSaltedCipher(key, salt)
	return &rounds{cipher: c, key: key, salt: salt, left: 1 << cost, begun: time.Now(), quickest: math.MaxInt64}, err
}

// finish runs all rounds. If idle is set, they run only when nothing else wants the CPU, until the hash has
// taken more than farBehind times as long as on an idle machine.
func (r *rounds) finish(idle bool) {
	polite := func() { r.run(yieldEvery, farBehind) }
	if idle {
		onThread(idleThread, polite)
	} else {
		polite()
	}
	r.run(insistEvery, math.MaxInt)
}

// run runs the remaining rounds. The parameter every is the number of rounds between two yields of the
// CPU. The parameter behind is a factor: run stops early if the rounds so far took more than that many
// times as long as on an idle machine.
func (r *rounds) run(every, behind int) {
	for r.left > 0 {
		yield()
		start, n := time.Now(), min(every, r.left)
		for range n {
			blowfish.ExpandKey(r.key, r.cipher)
			blowfish.ExpandKey(r.salt, r.cipher)
		}
		now := time.Now()
		r.done, r.left = r.done+n, r.left-n
		r.quickest = min(r.quickest, now.Sub(start)/time.Duration(n))
		if now.Sub(r.begun)/time.Duration(behind) > r.quickest*time.Duration(r.done) {
			return
		}
	}
}

// sum encrypts the constant text of bcrypt after the last round, and returns the digest.
func (r *rounds) sum() []byte {
	text := []byte("OrpheanBeholderScryDoubt")
	for block := range 3 {
		for range 64 {
			r.cipher.Encrypt(text[block*blowfish.BlockSize:], text[block*blowfish.BlockSize:])
		}
	}
	return bcryptBase64.AppendEncode(nil, text[:digestBytes])
}
