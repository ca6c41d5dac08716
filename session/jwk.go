package session

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// jwk is a JSON Web Key (RFC 7517, RFC 7518 section 6, RFC 8037 section 2).
type jwk struct {
	Kty string `json:"kty"`
	Crv string `json:"crv,omitzero"`
	Kid string `json:"kid"`
	Alg string `json:"alg"`
	Use string `json:"use,omitzero"`
	X   string `json:"x,omitzero"`
	Y   string `json:"y,omitzero"`
	D   string `json:"d,omitzero"`
	K   string `json:"k,omitzero"`

	// These members are sessiond's own extension for key files. Times are Unix seconds.
	Status    KeyStatus `json:"status,omitzero"`
	CreatedAt int64     `json:"created_at,omitzero"`
	RetiredAt int64     `json:"retired_at,omitzero"`
}

type jwkSet struct {
	Keys []jwk `json:"keys"`
}

// ParseKeySet parses a JSON Web Key Set. Every key needs the members "kid" and "alg". The set can
// sign tokens if it includes the private part of the active key.
func ParseKeySet(data []byte) (*KeySet, error) { return parseKeySet(data, false) }

// parseKeySet is like ParseKeySet. If skipOthers is true, it skips keys of kinds that sessiond does
// not use (RFC 7517 section 5).
func parseKeySet(data []byte, skipOthers bool) (*KeySet, error) {
	var set jwkSet
	if err := json.Unmarshal(data, &set); err != nil {
		// Leave out the decoder's message, because it could quote the key.
		return nil, errors.New("session.ParseKeySet: not a JSON Web Key Set")
	}
	keys := make([]Key, 0, len(set.Keys))
	for i, j := range set.Keys {
		k, err := j.key()
		if skipOthers && errors.Is(err, errKeyKind) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("session.ParseKeySet: key %d: %w", i+1, err)
		}
		k.Status, k.CreatedAt, k.RetiredAt = j.Status, unixTime(j.CreatedAt), unixTime(j.RetiredAt)
		keys = append(keys, k)
	}
	return NewKeySet(keys...)
}

var errKeyKind = errors.New("want a key with use \"sig\" of kind Ed25519 (EdDSA), P-256 (ES256) or oct (HS256)")

func (j *jwk) key() (Key, error) {
	if j.Use != "" && j.Use != "sig" {
		return Key{}, fmt.Errorf("use %q: %w", j.Use, errKeyKind)
	}
	if j.Kid == "" || len(j.Kid) > 100 {
		return Key{}, errors.New("kid: want 1 to 100 bytes")
	}
	var raw [4][]byte
	for i, member := range []string{j.X, j.Y, j.D, j.K} {
		b, err := decodeSegment(member)
		if err != nil {
			return Key{}, errors.New("the member x, y, d or k is not base64url")
		}
		raw[i] = b
	}
	x, y, d, k := raw[0], raw[1], raw[2], raw[3]
	switch {
	case j.Kty == "OKP" && j.Crv == "Ed25519" && j.Alg == AlgEdDSA:
		return okpKey(j.Kid, x, d)
	case j.Kty == "EC" && j.Crv == "P-256" && j.Alg == AlgES256:
		return ecKey(j.Kid, x, y, d)
	case j.Kty == "oct" && j.Alg == AlgHS256:
		if err := checkSecret(k); err != nil {
			return Key{}, err
		}
		return hmacKey(j.Kid, k), nil
	default:
		return Key{}, fmt.Errorf("the key has kty %q, crv %q and alg %q: %w", j.Kty, j.Crv, j.Alg, errKeyKind)
	}
}

// minHMACKey is the smallest size of an HS256 key, in bytes (RFC 7518 section 3.2).
const minHMACKey = 32

// checkSecret refuses an HS256 key that is too short or that an attacker may know. Keys from
// published examples and leaks are readable texts or repeat a few bytes. Of 10^11 keys of 32 random
// bytes, about one is a readable text, and practically none has fewer than 16 distinct bytes.
func checkSecret(k []byte) error {
	if len(k) < minHMACKey {
		return fmt.Errorf("an HS256 key needs at least %d bytes", minHMACKey)
	}
	const minDistinct = 16 // 32 random bytes have about 30 distinct values
	distinct := map[byte]bool{}
	for _, b := range k {
		distinct[b] = true
	}
	isText := utf8.Valid(k) && !bytes.ContainsFunc(bytes.TrimSpace(k), unicode.IsControl)
	if len(distinct) < minDistinct || isText {
		return errors.New("an HS256 key must be random bytes and not a readable text, which others may know; make one with 'sessiond keys new --alg HS256'")
	}
	return nil
}

func okpKey(id string, x, d []byte) (Key, error) {
	k := Key{ID: id, Alg: AlgEdDSA, public: ed25519.PublicKey(x), method: jwt.SigningMethodEdDSA}
	switch {
	case len(x) != ed25519.PublicKeySize:
		return Key{}, errors.New("the member x is not an Ed25519 public key")
	case len(d) == 0:
		return k, nil
	case len(d) != ed25519.SeedSize:
		return Key{}, errors.New("the member d is not an Ed25519 seed")
	}
	private := ed25519.NewKeyFromSeed(d)
	if !private.Public().(ed25519.PublicKey).Equal(k.public) {
		return Key{}, errors.New("the public key x does not match the private key d")
	}
	k.private = private
	return k, nil
}

func ecKey(id string, x, y, d []byte) (Key, error) {
	const size = 32
	if len(x) != size || len(y) != size {
		return Key{}, errors.New("the member x or y is not a P-256 coordinate")
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		return Key{}, errors.New("the members x and y are not a point on the curve P-256")
	}
	k := Key{ID: id, Alg: AlgES256, public: public, method: jwt.SigningMethodES256}
	if len(d) == 0 {
		return k, nil
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		return Key{}, errors.New("the member d is not a P-256 private key")
	}
	if !private.PublicKey.Equal(public) {
		return Key{}, errors.New("the public key x, y does not match the private key d")
	}
	k.private = private
	return k, nil
}

// PrivateJSON returns the set, with its private keys, as the JSON Web Key Set of a key file.
func (s *KeySet) PrivateJSON() ([]byte, error) {
	return s.encode(true, func(*Key) bool { return true })
}

// PublicJSON returns a JSON Web Key Set of the public keys that verify tokens at the time now. It
// has no HS256 keys, because an HS256 key has no public part.
func (s *KeySet) PublicJSON(now time.Time) ([]byte, error) {
	return s.encode(false, func(k *Key) bool { return k.Usable(now) && k.Alg != AlgHS256 })
}

func (s *KeySet) encode(secrets bool, include func(*Key) bool) ([]byte, error) {
	set := jwkSet{Keys: []jwk{}}
	for i := range s.keys {
		k := &s.keys[i]
		if !include(k) {
			continue
		}
		j := jwk{Kid: k.ID, Alg: k.Alg, Use: "sig"}
		if secrets {
			j.Status, j.CreatedAt, j.RetiredAt = k.Status, unixSeconds(k.CreatedAt), unixSeconds(k.RetiredAt)
		}
		b64 := base64.RawURLEncoding.EncodeToString
		switch public := k.public.(type) {
		case ed25519.PublicKey:
			j.Kty, j.Crv, j.X = "OKP", "Ed25519", b64(public)
			if private, ok := k.private.(ed25519.PrivateKey); ok && secrets {
				j.D = b64(private.Seed())
			}
		case *ecdsa.PublicKey:
			point, _ := public.Bytes() // cannot fail for P-256
			j.Kty, j.Crv, j.X, j.Y = "EC", "P-256", b64(point[1:33]), b64(point[33:])
			if private, ok := k.private.(*ecdsa.PrivateKey); ok && secrets {
				scalar, _ := private.Bytes()
				j.D = b64(scalar)
			}
		case []byte:
			j.Kty, j.K = "oct", b64(public)
		}
		set.Keys = append(set.Keys, j)
	}
	out, err := json.Marshal(set, jsontext.WithIndent("  "))
	if err != nil {
		return nil, fmt.Errorf("session.KeySet: encode: %w", err)
	}
	return append(out, '\n'), nil
}

func unixTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func unixSeconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
