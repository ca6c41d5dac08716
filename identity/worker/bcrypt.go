package worker

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
// Twice as many follow at once while a hash takes more than farBehind times as long as
// it would without company: where there always is some, who always gives way gets
// next to nothing.
const (
	roundsAtOnce = 4
	farBehind    = 5
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
func compare(hash, secret []byte) error {
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
	sum, err := digest(secret, salt, cost)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(sum, rest[saltChars:]) != 1 {
		return bcrypt.ErrMismatchedHashAndPassword
	}
	return nil
}

// generate is [bcrypt.GenerateFromPassword], which raises no cost by itself.
func generate(secret []byte, cost int) ([]byte, error) {
	if cost < bcrypt.MinCost || cost > bcrypt.MaxCost {
		return nil, bcrypt.InvalidCostError(cost)
	}
	if len(secret) > maxSecret {
		return nil, bcrypt.ErrPasswordTooLong
	}
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	sum, err := digest(secret, salt, cost)
	return fmt.Appendf(nil, "$2a$%02d$%s%s", cost, encoding.EncodeToString(salt), sum), err
}

// atOnce is how many of the rounds that are left follow, when those before took so
// long and would have taken alone.
func atOnce(left int, took, alone time.Duration) int {
	if took > farBehind*alone {
		return min(2*roundsAtOnce, left)
	}
	return min(roundsAtOnce, left)
}

func digest(secret, salt []byte, cost int) ([]byte, error) {
	key := append(bytes.Clone(secret), 0) // as C has it
	c, err := blowfish.NewSaltedCipher(key, salt)
	if err != nil {
		return nil, fmt.Errorf("bcrypt: %w", err)
	}
	begun, quickest := time.Now(), time.Duration(math.MaxInt64) // round
	for done, next := 0, roundsAtOnce; done < 1<<cost; {
		giveWay()
		start := time.Now()
		for range next {
			blowfish.ExpandKey(key, c)
			blowfish.ExpandKey(salt, c)
		}
		now := time.Now()
		done += next
		quickest = min(quickest, now.Sub(start)/time.Duration(next))
		next = atOnce(1<<cost-done, now.Sub(begun), quickest*time.Duration(done))
	}
	text := []byte(magic)
	for block := range 3 {
		for range 64 {
			c.Encrypt(text[block*blowfish.BlockSize:], text[block*blowfish.BlockSize:])
		}
	}
	return encoding.AppendEncode(nil, text[:digestBytes]), nil
}
