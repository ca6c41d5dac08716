package hashing

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"math"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/blowfish" //nolint:staticcheck // SA1019: deprecated as a cipher; bcrypt is made of it
)

// x/crypto's bcrypt keeps a core for the whole of a hash. Here the same rounds, done by
// x/crypto's Blowfish, give way every so many, some 0.25 ms. A low priority alone is not
// enough: the kernel may have whoever just woke wait for the end of a tick, 4 ms, when
// that one has had more than its share of late. See decision 0012.
//
// Where there always is somebody to give way to, who always does gets next to nothing.
// So a hash that takes more than farBehind times as long as it would without company
// insists: it goes on with some 1.5 ms at once, and at the priority of the process.
const (
	roundsAtOnce    = 4
	farBehind       = 10
	insistingAtOnce = 24
)

// The parts of a hash behind "$2a$10$", and the text that is encrypted.
const (
	saltBytes, saltChars = 16, 22
	digestBytes          = 23 // of 24: the last is dropped by all
	maxSecret            = 72
	magic                = "OrpheanBeholderScryDoubt"
)

var encoding = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)

// compare is [bcrypt.CompareHashAndPassword].
func compare(hash, secret []byte, idle bool) error {
	cost, err := bcrypt.Cost(hash)
	if err != nil {
		return err
	}
	rest := hash[bytes.LastIndexByte(hash, '$')+1:]
	if len(rest) < saltChars {
		return bcrypt.ErrHashTooShort
	}
	salt, err := encoding.DecodeString(string(rest[:saltChars]))
	if err != nil {
		return fmt.Errorf("salt of a hash: %w", err)
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

// generate is [bcrypt.GenerateFromPassword], which raises no cost by itself.
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
	return fmt.Appendf(nil, "$2a$%02d$%s%s", cost, encoding.EncodeToString(salt), sum), err
}

func digest(secret, salt []byte, cost int, idle bool) ([]byte, error) {
	r, err := begin(secret, salt, cost)
	if err != nil {
		return nil, fmt.Errorf("bcrypt: %w", err)
	}
	r.finish(idle)
	return r.sum(), nil
}

// rounds are those of one hash.
type rounds struct {
	cipher     *blowfish.Cipher
	key, salt  []byte
	done, left int
	begun      time.Time
	quickest   time.Duration // of one
}

func begin(secret, salt []byte, cost int) (*rounds, error) {
	key := append(bytes.Clone(secret), 0) // as C has it
	c, err := blowfish.NewSaltedCipher(key, salt)
	return &rounds{cipher: c, key: key, salt: salt, left: 1 << cost, begun: time.Now(), quickest: math.MaxInt64}, err
}

// finish does all of them, on a thread of the idle class if told to, but for those of a
// hash that is far behind.
func (r *rounds) finish(idle bool) {
	giving := func() { r.run(roundsAtOnce, farBehind) }
	if idle {
		onThread(idleThread, giving)
	} else {
		giving()
	}
	r.run(insistingAtOnce, math.MaxInt)
}

// run does those that are left, so many at once, until those that are done took more
// than behind times as long as they would have alone.
func (r *rounds) run(atOnce, behind int) {
	for r.left > 0 {
		giveWay()
		start, n := time.Now(), min(atOnce, r.left)
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

func (r *rounds) sum() []byte {
	text := []byte(magic)
	for block := range 3 {
		for range 64 {
			r.cipher.Encrypt(text[block*blowfish.BlockSize:], text[block*blowfish.BlockSize:])
		}
	}
	return encoding.AppendEncode(nil, text[:digestBytes])
}
