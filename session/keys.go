package session

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// The signature algorithms of RFC 7518 and RFC 8037 that we sign and accept.
// RS256 is missing on purpose: ASVS 5.0 disallows PKCS #1 v1.5.
const (
	AlgEdDSA = "EdDSA"
	AlgES256 = "ES256"
	AlgHS256 = "HS256"
)

// minHMACKey is the least an HS256 key may hold, in bytes (RFC 7518 section 3.2).
const minHMACKey = 32

// KeyStatus says where a key is in its life.
type KeyStatus string

// The life of a key: it is published, so that all who verify have it before it
// signs; then it signs, one at a time; then it only verifies, until the
// last token it signed has expired.
const (
	KeyPublished KeyStatus = "published"
	KeyActive    KeyStatus = "active"
	KeyRetired   KeyStatus = "retired"
)

// MaxAccessTTL is the longest an access token may last. A retired key is
// forgotten when it has been retired for so long, plus [Leeway].
const MaxAccessTTL = 24 * time.Hour

// Key is one signing key. A key verifies one algorithm only.
type Key struct {
	ID        string
	Alg       string
	Status    KeyStatus
	CreatedAt time.Time // zero: not known
	RetiredAt time.Time // only when retired

	private any // what method.Sign wants; nil for a key that can only verify
	public  any // what method.Verify wants
	method  jwt.SigningMethod
}

// KeySet holds the keys that tokens are verified with, and says which one signs.
// It does not change.
type KeySet struct {
	keys   []Key
	signer *Key // nil when the set can only verify
}

// GenerateKey makes a key for alg with a random id.
func GenerateKey(alg string) (Key, error) {
	id := newKeyID()
	switch alg {
	case AlgEdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return Key{}, fmt.Errorf("session.GenerateKey: %w", err)
		}
		return ed25519Key(id, private, private.Public().(ed25519.PublicKey)), nil
	case AlgES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return Key{}, fmt.Errorf("session.GenerateKey: %w", err)
		}
		return ecdsaKey(id, private, &private.PublicKey), nil
	case AlgHS256:
		secret := make([]byte, minHMACKey)
		for checkSecret(secret) != nil {
			rand.Read(secret)
		}
		return hmacKey(id, secret), nil
	default:
		return Key{}, fmt.Errorf("session.GenerateKey: algorithm %q is none of EdDSA, ES256, HS256", alg)
	}
}

// newKeyID returns 128 random bits in base64url.
func newKeyID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func ed25519Key(id string, private ed25519.PrivateKey, public ed25519.PublicKey) Key {
	k := Key{ID: id, Alg: AlgEdDSA, public: public, method: jwt.SigningMethodEdDSA}
	if private != nil {
		k.private = crypto.Signer(private)
	}
	return k
}

func ecdsaKey(id string, private *ecdsa.PrivateKey, public *ecdsa.PublicKey) Key {
	k := Key{ID: id, Alg: AlgES256, public: public, method: jwt.SigningMethodES256}
	if private != nil {
		k.private = private
	}
	return k
}

func hmacKey(id string, secret []byte) Key {
	return Key{ID: id, Alg: AlgHS256, private: secret, public: secret, method: jwt.SigningMethodHS256}
}

// Usable tells whether a key may still verify.
func (k *Key) Usable(now time.Time) bool {
	end, ends := k.end()
	return !ends || now.Before(end)
}

// end is when a retired key verifies nothing any more. The others do not end.
func (k *Key) end() (at time.Time, ends bool) {
	return k.RetiredAt.Add(MaxAccessTTL + Leeway), k.Status == KeyRetired
}

// NewKeySet makes a set. The active key signs, of which there is at most one;
// when no key has a status the first is active and the others are published.
func NewKeySet(keys ...Key) (*KeySet, error) {
	if len(keys) == 0 {
		return nil, errors.New("session.NewKeySet: no key")
	}
	set := &KeySet{keys: slices.Clone(keys)}
	if !slices.ContainsFunc(keys, func(k Key) bool { return k.Status != "" }) {
		set.keys[0].Status = KeyActive
	}
	seen := make(map[string]bool, len(keys))
	for i := range set.keys {
		k := &set.keys[i]
		if k.ID == "" || seen[k.ID] {
			return nil, fmt.Errorf("session.NewKeySet: key id %q is empty or given twice", k.ID)
		}
		seen[k.ID] = true
		switch k.Status {
		case "":
			k.Status = KeyPublished
		case KeyPublished:
		case KeyActive:
			if set.signer != nil {
				return nil, errors.New("session.NewKeySet: more than one key is active")
			}
			if k.private != nil {
				set.signer = k
			}
		case KeyRetired:
			if k.RetiredAt.IsZero() {
				return nil, fmt.Errorf("session.NewKeySet: key %q is retired and does not say since when", k.ID)
			}
		default:
			return nil, fmt.Errorf("session.NewKeySet: key %q has the unknown status %q", k.ID, k.Status)
		}
	}
	return set, nil
}

// Keys returns the keys of the set, in the order of its file.
func (s *KeySet) Keys() []Key { return slices.Clone(s.keys) }

// find returns the key of an id if it may still verify.
func (s *KeySet) find(id string, now time.Time) (*Key, bool) {
	for i := range s.keys {
		if k := &s.keys[i]; k.ID == id {
			return k, k.Usable(now)
		}
	}
	return nil, false
}

// Keyring is the key set in use, which may be replaced while it is used.
type Keyring struct {
	set     atomic.Pointer[KeySet]
	fetcher *keyFetcher // that can ask for newer keys; nil: nobody can
}

// NewKeyring returns a ring that holds a set.
func NewKeyring(set *KeySet) *Keyring {
	r := &Keyring{}
	r.Replace(set)
	return r
}

// Replace puts another set in use, for every token that is signed or checked from then on.
func (r *Keyring) Replace(set *KeySet) { r.set.Store(set) }

// Load returns the set in use.
func (r *Keyring) Load() *KeySet { return r.set.Load() }

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

	// Members of our own, in key files only. Times are Unix seconds.
	Status    KeyStatus `json:"status,omitzero"`
	CreatedAt int64     `json:"created_at,omitzero"`
	RetiredAt int64     `json:"retired_at,omitzero"`
}

type jwkSet struct {
	Keys []jwk `json:"keys"`
}

// ParseKeySet reads a JSON Web Key Set. The active key signs, when the set holds
// its private part. Each key must name its kid and its alg.
func ParseKeySet(data []byte) (*KeySet, error) { return parseKeySet(data, false) }

// parseKeySet is ParseKeySet, and passes over keys of other kinds if told to (RFC
// 7517 section 5).
func parseKeySet(data []byte, passOver bool) (*KeySet, error) {
	var set jwkSet
	if err := json.Unmarshal(data, &set); err != nil {
		// The decoder's own message could quote the key.
		return nil, errors.New("session.ParseKeySet: not a JSON Web Key Set")
	}
	keys := make([]Key, 0, len(set.Keys))
	for i, j := range set.Keys {
		k, err := j.key()
		if passOver && errors.Is(err, errKeyKind) {
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

func (j *jwk) key() (Key, error) {
	if j.Use != "" && j.Use != "sig" {
		return Key{}, fmt.Errorf("use %q: %w", j.Use, errKeyKind)
	}
	if j.Kid == "" || len(j.Kid) > 100 {
		return Key{}, errors.New("kid is missing or longer than 100 bytes")
	}
	var raw [4][]byte
	for i, member := range []string{j.X, j.Y, j.D, j.K} {
		b, err := decodeSegment(member)
		if err != nil {
			return Key{}, errors.New("a member is not base64url")
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
		return Key{}, fmt.Errorf("kty %q, crv %q, alg %q: %w", j.Kty, j.Crv, j.Alg, errKeyKind)
	}
}

var errKeyKind = errors.New("only keys that sign (use sig), Ed25519 (EdDSA), P-256 (ES256) and oct (HS256), are accepted")

// checkSecret refuses an HS256 key that is short or that somebody else may
// know. The secrets that are published, in examples, lists and leaks, are texts;
// 32 random bytes are a text once in 10^11 times, and never of so few kinds.
func checkSecret(k []byte) error {
	if len(k) < minHMACKey {
		return fmt.Errorf("an HS256 key holds at least %d bytes", minHMACKey)
	}
	const fewest = 16 // kinds of bytes; 32 random ones hold about 30
	kinds := map[byte]bool{}
	for _, b := range k {
		kinds[b] = true
	}
	isText := utf8.Valid(k) && !bytes.ContainsFunc(bytes.TrimSpace(k), unicode.IsControl)
	if len(kinds) < fewest || isText {
		return errors.New("an HS256 key is random bytes, not a text that may be known: make one with sessiond keys new --alg HS256")
	}
	return nil
}

func okpKey(id string, x, d []byte) (Key, error) {
	if len(x) != ed25519.PublicKeySize {
		return Key{}, errors.New("x is not an Ed25519 public key")
	}
	if len(d) == 0 {
		return ed25519Key(id, nil, x), nil
	}
	if len(d) != ed25519.SeedSize {
		return Key{}, errors.New("d is not an Ed25519 seed")
	}
	private := ed25519.NewKeyFromSeed(d)
	if !private.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(x)) {
		return Key{}, errors.New("x does not belong to d")
	}
	return ed25519Key(id, private, x), nil
}

func ecKey(id string, x, y, d []byte) (Key, error) {
	const size = 32
	if len(x) != size || len(y) != size {
		return Key{}, errors.New("x or y is not a P-256 coordinate")
	}
	point := append(append([]byte{4}, x...), y...)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return Key{}, errors.New("x and y are no point of P-256")
	}
	if len(d) == 0 {
		return ecdsaKey(id, nil, public), nil
	}
	if len(d) != size {
		return Key{}, errors.New("d is not a P-256 scalar")
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		return Key{}, errors.New("d is not a P-256 scalar")
	}
	if !private.PublicKey.Equal(public) {
		return Key{}, errors.New("x and y do not belong to d")
	}
	return ecdsaKey(id, private, public), nil
}

// PrivateJSON returns the set with its secrets as a JSON Web Key Set, for the
// key file.
func (s *KeySet) PrivateJSON() ([]byte, error) {
	return s.encode(true, func(*Key) bool { return true })
}

// PublicJSON returns the JSON Web Key Set that others verify our tokens with at
// now. HS256 keys have no public part and are left out.
func (s *KeySet) PublicJSON(now time.Time) ([]byte, error) {
	return s.encode(false, func(k *Key) bool { return k.Usable(now) })
}

func (s *KeySet) encode(secrets bool, which func(*Key) bool) ([]byte, error) {
	set := jwkSet{Keys: []jwk{}}
	for i := range s.keys {
		k := &s.keys[i]
		if !which(k) {
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
			point, err := public.Bytes()
			if err != nil {
				return nil, fmt.Errorf("session.KeySet: key %s: %w", k.ID, err)
			}
			j.Kty, j.Crv, j.X, j.Y = "EC", "P-256", b64(point[1:33]), b64(point[33:])
			if private, ok := k.private.(*ecdsa.PrivateKey); ok && secrets {
				scalar, err := private.Bytes()
				if err != nil {
					return nil, fmt.Errorf("session.KeySet: key %s: %w", k.ID, err)
				}
				j.D = b64(scalar)
			}
		case []byte:
			if !secrets {
				continue
			}
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

// decodeSegment decodes base64url as RFC 7515 section 2 wants it: no padding,
// no line breaks (which encoding/base64 would skip), no stray bits.
func decodeSegment(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("line break in base64url")
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// CanSign tells whether the set holds a private key to sign with.
func (s *KeySet) CanSign() bool { return s.signer != nil }
