package hashing

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"

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

var (
	bcryptBase64 = base64.NewEncoding(bcryptAlphabet).WithPadding(base64.NoPadding)
	// storedForm is stricter than the library, which ignores whatever follows the digest, and takes any
	// letter as the version.
	storedForm = regexp.MustCompile(`^(?:` + regexp.QuoteMeta(hashPrefix) + `([` + pepperIDAlphabet + `]{1,32}))?` +
		`(\$2[aby]\$([0-9]{2})\$[` + bcryptAlphabet + `]{53})$`)
	errMalformedHash = errors.New("neither bcrypt nor a hash of this service")
)

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
	parts := storedForm.FindStringSubmatch(hash)
	if parts == nil {
		return storedHash{}, errMalformedHash
	}
	h := storedHash{plain: parts[1] == "", pepper: parts[1], bcrypt: parts[2]}
	h.cost, _ = strconv.Atoi(parts[3])
	// bcrypt compares text. A digest that no encoder writes would match no password, so the import must
	// refuse it.
	_, err := bcryptBase64.Strict().DecodeString(h.bcrypt[headChars+saltChars:])
	switch {
	case err != nil || h.cost < bcrypt.MinCost:
		return storedHash{}, errMalformedHash
	case h.cost > MaxCost:
		return storedHash{}, fmt.Errorf("bcrypt cost %d is above %d", h.cost, MaxCost)
	}
	return h, nil
}
