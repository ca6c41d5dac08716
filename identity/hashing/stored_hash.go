package hashing

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// A password hash is stored as bcrypt of the pre-hash, with the id of its pepper in front:
//
//	$sessiond$v=1$p=PEPPER$2a$10$SALT22DIGEST31
//
// Users who were imported and have not signed in since have plain bcrypt.
const hashPrefix = "$sessiond$v=1$p="

// The form of a bcrypt hash: a head with the version and the cost, then the salt and the digest in
// bcrypt's own base64.
const (
	bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

	headChars                = len("$2a$10$")
	saltBytes, saltChars     = 16, 22
	digestBytes, digestChars = 23, 31 // bcrypt drops the last of 24 bytes
	maxSecret                = 72     // bytes; bcrypt ignores the rest
)

var bcryptBase64 = base64.NewEncoding(bcryptAlphabet).WithPadding(base64.NoPadding)

var errMalformedHash = errors.New("neither bcrypt nor a hash of this service")

type storedHash struct {
	plain  bool   // bcrypt of the password itself
	pepper string // id; empty if plain
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

	// The library accepts more: it ignores whatever follows the digest, and takes any letter as the
	// version.
	if len(rest) != headChars+saltChars+digestChars || rest[:2] != "$2" ||
		strings.IndexByte("aby", rest[2]) < 0 || rest[3] != '$' || rest[6] != '$' ||
		!isDigit(rest[4]) || !isDigit(rest[5]) || strings.Trim(rest[headChars:], bcryptAlphabet) != "" {
		return storedHash{}, errMalformedHash
	}
	// bcrypt compares text. A digest that no encoder writes would match no password, so the import
	// must refuse it.
	if _, err := bcryptBase64.Strict().DecodeString(rest[headChars+saltChars:]); err != nil {
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
	return h, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
