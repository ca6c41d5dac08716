package hashing

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// The form in which a password hash is stored:
//
//	$sessiond$v=1$p=PEPPER$2a$10$SALT22SUM31
//
// that is, bcrypt of the pre-hash under the pepper of that id; or plain bcrypt,
// for users who were imported and have not signed in since.
const hashPrefix = "$sessiond$v=1$p="

const (
	bcryptHead = len("$2a$10$")
	saltLength = 22
	sumLength  = 31
)

// bcryptBase64 is strict because bcrypt compares text: a sum that no encoder
// writes would be imported without complaint and match no password.
var bcryptBase64 = base64.NewEncoding(
	"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").
	WithPadding(base64.NoPadding).Strict()

var errMalformedHash = errors.New("neither bcrypt nor a form of ours")

type storedHash struct {
	plain  bool   // bcrypt of the password itself
	pepper string // id; only when not plain
	cost   int
	bcrypt string
}

func peppered(pepper, bcryptHash string) string {
	return hashPrefix + pepper + bcryptHash
}

func parseHash(hash string) (storedHash, error) {
	var h storedHash
	rest, ours := strings.CutPrefix(hash, hashPrefix)
	h.plain = !ours
	if ours {
		end := strings.IndexByte(rest, '$')
		if end < 0 || !validPepperID(rest[:end]) {
			return storedHash{}, errMalformedHash
		}
		h.pepper, rest = rest[:end], rest[end:]
	}
	h.bcrypt = rest

	// The library is laxer than this: it ignores what follows the sum, and
	// takes any letter for the version.
	if len(rest) != bcryptHead+saltLength+sumLength || rest[:2] != "$2" ||
		strings.IndexByte("aby", rest[2]) < 0 || rest[3] != '$' || rest[6] != '$' {
		return storedHash{}, errMalformedHash
	}
	if !isDigit(rest[4]) || !isDigit(rest[5]) {
		return storedHash{}, errMalformedHash
	}
	cost, err := strconv.Atoi(rest[4:6])
	if err != nil || cost < bcrypt.MinCost {
		return storedHash{}, errMalformedHash
	}
	if cost > MaxCost {
		return storedHash{}, fmt.Errorf("bcrypt cost %d is above %d", cost, MaxCost)
	}
	h.cost = cost

	salt, sum := rest[bcryptHead:bcryptHead+saltLength], rest[bcryptHead+saltLength:]
	if strings.Trim(salt, "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return storedHash{}, errMalformedHash
	}
	if _, err := bcryptBase64.DecodeString(sum); err != nil {
		return storedHash{}, errMalformedHash
	}
	return h, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
