package hashing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// firebaseKey is the length of the AES key that Firebase's scrypt derives, in bytes.
const firebaseKey = 32

// kdfHash is an imported password hash: the key that a [KDF] derived from the password. A hash by Firebase is
// not the key, but the project's signer key, encrypted with the key. These forms are known:
//
//	$argon2id$v=19$m=65536,t=3,p=4$SALT$HASH         also argon2i
//	$scrypt$ln=16,r=8,p=1$SALT$HASH
//	$pbkdf2-sha256$29000$SALT$HASH                   passlib; also sha512, and $pbkdf2$ for SHA-1
//	$pbkdf2-sha256$i=29000,l=32$SALT$HASH            PHC; also sha1 and sha512
//	pbkdf2_sha256$260000$SALT$HASH                   Django; the salt is text; also sha1 and sha512
//	$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,k=PEPPER$SALT$HASH
//
// The last one names the pepper whose key is the signer key. Without the signer key nobody can test guesses,
// so it must not be in the database. Salts and hashes are base64 of any alphabet, with or without padding.
type kdfHash struct {
	KDF
	hash     []byte
	firebase bool
}

// matches reports whether the key is that of the hash. A hash by Firebase needs the signer key.
func (h *kdfHash) matches(key, signerKey []byte) (bool, error) {
	if h.firebase {
		block, err := aes.NewCipher(key)
		if err != nil {
			return false, err
		}
		key = make([]byte, len(signerKey))
		cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(key, signerKey) //nolint:gosec // G407: Firebase uses no nonce, and nothing is encrypted here
	}
	return subtle.ConstantTimeCompare(key, h.hash) == 1, nil
}

// parseKDF parses one of the forms of kdfHash, and also returns the id of the pepper that the hash names. An
// error names the part that is wrong. It quotes no salt and no hash.
func parseKDF(text string) (h *kdfHash, pepper string, err error) {
	parts := strings.Split(strings.TrimPrefix(text, "$"), "$")
	name, django := parts[0], strings.HasPrefix(text, "pbkdf2_")
	h = &kdfHash{firebase: name == "fbscrypt"}
	switch {
	case h.firebase:
		h.Name = "scrypt"
	case django:
		h.Name = strings.Replace(name, "_", "-", 1)
	case name == "pbkdf2":
		h.Name = "pbkdf2-sha1"
	default:
		h.Name = name
	}
	if _, known := kdfs[h.Name]; !known || text[0] != '$' && !django {
		return nil, "", errUnknownForm
	}
	if pepper, err = h.parse(parts[1:], django); err == nil {
		err = h.check()
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	return h, pepper, nil
}

// parse parses the parts of a hash after the name.
func (h *kdfHash) parse(parts []string, textSalt bool) (pepper string, err error) {
	if strings.HasPrefix(h.Name, "argon2") {
		if len(parts) == 0 || parts[0] != "v=19" {
			return "", errors.New("v: want version 19")
		}
		parts = parts[1:]
	}
	if len(parts) != 3 {
		return "", errors.New("want the parameters, the salt and the hash, with a $ before each")
	}
	if h.hash, err = decode("hash", parts[2]); err != nil {
		return "", err
	}
	h.Size = len(h.hash)
	if h.Salt = []byte(parts[1]); !textSalt {
		if h.Salt, err = decode("salt", parts[1]); err != nil {
			return "", err
		}
	}
	switch {
	case h.firebase:
		return h.parseFirebase(parts[0])
	case strings.HasPrefix(h.Name, "pbkdf2"): // the name and the length may be missing
		rounds := strings.TrimSuffix(strings.TrimPrefix(parts[0], "i="), fmt.Sprintf(",l=%d", h.Size))
		return "", h.parseCosts("i=" + rounds)
	default:
		return "", h.parseCosts(parts[0])
	}
}

// parseFirebase parses parameters such as v=1,n=14,r=8,p=1,ss=Bw==,k=PEPPER.
func (h *kdfHash) parseFirebase(text string) (pepper string, err error) {
	text, pepper, _ = strings.Cut(text, ",k=")
	text, separator, found := strings.Cut(text, ",ss=")
	costs, versioned := strings.CutPrefix(text, "v=1,n=")
	switch {
	case !found || !versioned:
		return "", errors.New("want parameters such as v=1,n=14,r=8,p=1,ss=Bw==,k=PEPPER")
	case !validPepperID(pepper):
		return "", errors.New("k: want the id of the pepper that is the signer key")
	}
	more, err := decode("ss", separator)
	if err != nil {
		return "", err
	}
	h.Salt, h.Size = append(h.Salt, more...), firebaseKey
	return pepper, h.parseCosts("ln=" + costs)
}

// parseCosts parses costs such as m=65536,t=3,p=4. Their order is that of the function.
func (h *kdfHash) parseCosts(text string) error {
	names, costs := kdfs[h.Name].costs, strings.Split(text, ",")
	if len(costs) != len(names) {
		return fmt.Errorf("want the parameters %s", strings.Join(names, ", "))
	}
	for i, name := range names {
		digits, _ := strings.CutPrefix(costs[i], name+"=")
		cost, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || digits != strconv.FormatUint(cost, 10) {
			return fmt.Errorf("%s: want a whole number after %s=", name, name)
		}
		h.Costs = append(h.Costs, uint32(cost))
	}
	return nil
}

// standardAlphabet maps the letters of other alphabets of base64 to those of the standard one: the URL's, and
// passlib's with its dot.
var standardAlphabet = strings.NewReplacer("-", "+", ".", "+", "_", "/", "\n", "?", "\r", "?")

// decode decodes base64 of any alphabet, with or without padding. Go's decoder would ignore line breaks.
func decode(name, text string) ([]byte, error) {
	data, err := base64.RawStdEncoding.Strict().DecodeString(standardAlphabet.Replace(strings.TrimRight(text, "=")))
	if err != nil {
		return nil, fmt.Errorf("%s: want base64", name)
	}
	return data, nil
}
