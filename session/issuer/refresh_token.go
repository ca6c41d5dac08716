package issuer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// The refresh tokens of a session form a family. Each token consists of a secret that the family
// shares, and of a secret of its own. The ledger (the database) stores only the hashes of the
// family's secret, of the current token and of the previous token. Any other token with the
// family's secret must be an older token, because nobody else knows the family's secret.
const (
	familyBytes  = 16
	secretBytes  = 32
	refreshBytes = familyBytes + secretBytes
)

type refreshToken [refreshBytes]byte

func newRefreshToken() refreshToken {
	var t refreshToken
	rand.Read(t[:])
	return t
}

func parseRefreshToken(s string) (t refreshToken, ok bool) {
	b64 := base64.RawURLEncoding
	if len(s) != b64.EncodedLen(refreshBytes) {
		return t, false
	}
	b, err := b64.Strict().DecodeString(s)
	if err != nil || len(b) != refreshBytes { // Decode skips line breaks, and then returns fewer bytes
		return t, false
	}
	return refreshToken(b), true
}

func (t refreshToken) String() string { return base64.RawURLEncoding.EncodeToString(t[:]) }
func (t refreshToken) hash() Hash     { return sha256.Sum256(t[:]) }
func (t refreshToken) family() Hash   { return sha256.Sum256(t[:familyBytes]) }

// successor returns a new token of the same family, to replace t.
func (t refreshToken) successor() refreshToken {
	next := newRefreshToken()
	copy(next[:familyBytes], t[:familyBytes])
	return next
}

// aead returns a cipher whose key is derived from t, so that only a holder of t can use it. The
// nonce may be fixed, because the key encrypts only one message: the token that replaces t.
func (t refreshToken) aead() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, t[:], nil, "sessiond refresh successor", 32)
	if err != nil {
		return nil, fmt.Errorf("issuer: derive the key that encrypts the next refresh token: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("issuer: create the cipher for the next refresh token: %w", err)
	}
	return cipher.NewGCM(block)
}

// seal encrypts next, the successor of t. Only a holder of t can decrypt the result.
func (t refreshToken) seal(next refreshToken) ([]byte, error) {
	aead, err := t.aead()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, make([]byte, aead.NonceSize()), next[familyBytes:], nil), nil //nolint:gosec // G407: aead's comment says why the nonce may be fixed
}

// open decrypts the successor of t that t.seal encrypted.
func (t refreshToken) open(sealed []byte) (refreshToken, error) {
	aead, err := t.aead()
	if err != nil {
		return t, err
	}
	secret, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed, nil)
	if err != nil || len(secret) != secretBytes {
		return t, errors.New("issuer: cannot decrypt the stored successor of a used refresh token")
	}
	return refreshToken(bytes.Join([][]byte{t[:familyBytes], secret}, nil)), nil
}
