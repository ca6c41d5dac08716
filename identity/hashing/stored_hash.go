package hashing

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// A stored password hash is the id of the pepper and then the bcrypt hash of the pre-hash (see [Hasher]):
//
//	$sessiond$v=1$p=PEPPER$2a$10$SALT22DIGEST31
//
// An imported user has a plain bcrypt hash, or one of the forms of kdfHash, until the first login.
const hashPrefix = "$sessiond$v=1$p="

// NoPassword is a hash in stored form that no password matches: its digest is zero.
const NoPassword = "$2a$10$....................................................."

// A bcrypt hash is a version and a cost, then a salt and a digest in bcrypt's own kind of base64.
const (
	bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

	headChars                = len("$2a$10$") // length of the version and the cost
	saltBytes, saltChars     = 16, 22
	digestBytes, digestChars = 23, 31 // bcrypt computes 24 bytes and drops the last one
	maxSecret                = 72     // bcrypt reads only the first 72 bytes of a secret
)

var (
	bcryptBase64 = base64.NewEncoding(bcryptAlphabet).WithPadding(base64.NoPadding)
	// storedForm is stricter than x/crypto, which accepts any version and ignores text after the digest.
	storedForm = regexp.MustCompile(`^(?:` + regexp.QuoteMeta(hashPrefix) + `([` + pepperIDAlphabet + `]{1,32}))?` +
		`(\$2[aby]\$([0-9]{2})\$[` + bcryptAlphabet + `]{53})$`)
	errMalformedBcrypt = errors.New("bcrypt: want $2a$, $2b$ or $2y$, a cost of two digits, a $, and 53 characters of salt and digest")
	errUnknownForm     = errors.New("neither bcrypt nor another known form: want $2a$, $2b$, $2y$, $argon2id$, $argon2i$, $scrypt$, " +
		"$pbkdf2-sha256$, pbkdf2_sha256$ or the like, $fbscrypt$, or " + hashPrefix)
)

type storedHash struct {
	kdf    *kdfHash // not nil if the hash is not bcrypt; cost and bcrypt are then empty
	plain  bool     // bcrypt hashed the password itself, not a pre-hash
	pepper string   // id of the pepper; empty if the hash needs none
	cost   int
	bcrypt string
}

func peppered(pepper, bcryptHash string) string {
	return hashPrefix + pepper + bcryptHash
}

func parseHash(hash string) (storedHash, error) {
	if !strings.HasPrefix(hash, "$2") && !strings.HasPrefix(hash, hashPrefix) {
		kdf, pepper, err := parseKDF(hash)
		return storedHash{kdf: kdf, pepper: pepper}, err
	}
	parts := storedForm.FindStringSubmatch(hash)
	if parts == nil {
		return storedHash{}, errMalformedBcrypt
	}
	h := storedHash{plain: parts[1] == "", pepper: parts[1], bcrypt: parts[2]}
	h.cost, _ = strconv.Atoi(parts[3])
	// bcrypt compares digests as text. If no base64 encoder would write a digest, no password matches
	// it. The import must refuse such a hash, because its user could never sign in.
	_, err := bcryptBase64.Strict().DecodeString(h.bcrypt[headChars+saltChars:])
	switch {
	case err != nil || h.cost < bcrypt.MinCost:
		return storedHash{}, errMalformedBcrypt
	case h.cost > MaxCost:
		return storedHash{}, fmt.Errorf("bcrypt cost %d is above %d, the highest that is allowed", h.cost, MaxCost)
	}
	return h, nil
}
