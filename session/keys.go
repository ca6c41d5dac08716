package session

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// These are the signature algorithms of access tokens (RFC 7518, RFC 8037). RS256 is left out on
// purpose, because ASVS 5.0 disallows PKCS #1 v1.5.
const (
	AlgEdDSA = "EdDSA"
	AlgES256 = "ES256"
	AlgHS256 = "HS256"
)

// KeyStatus is the stage of a signing key's life.
type KeyStatus string

// A new key is first published, so that every verifier knows the key before it signs tokens. The
// active key is the only key of a set that signs. A retired key only verifies, until the last token
// that it signed has expired.
const (
	KeyPublished KeyStatus = "published"
	KeyActive    KeyStatus = "active"
	KeyRetired   KeyStatus = "retired"
)

// MaxAccessTTL is the longest life of an access token. For MaxAccessTTL plus [Leeway] after its
// retirement, a retired key still verifies tokens.
const MaxAccessTTL = 24 * time.Hour

// retireGrace is how long after the retirement of a key a replica may sign with it, because the replica has
// not read the changed key file yet. A mounted Kubernetes secret may change two minutes late.
const retireGrace = 6 * time.Minute

// Key is one signing key. It verifies tokens of one algorithm only.
type Key struct {
	ID        string
	Alg       string
	Status    KeyStatus
	CreatedAt time.Time // zero if unknown
	RetiredAt time.Time // zero unless the key is retired

	private any // the key that method.Sign takes; nil if the key can only verify
	public  any // the key that method.Verify takes
	method  jwt.SigningMethod
}

// KeySet is an immutable set of keys that verify tokens. At most one of the keys signs tokens.
type KeySet struct {
	keys   []Key
	signer *Key // nil if the set can only verify
}

// GenerateKey returns a new key for alg with a random id.
func GenerateKey(alg string) (Key, error) {
	var b [16]byte
	rand.Read(b[:])
	id := base64.RawURLEncoding.EncodeToString(b[:])
	switch alg {
	case AlgEdDSA:
		public, private, err := ed25519.GenerateKey(rand.Reader)
		return Key{ID: id, Alg: alg, private: private, public: public, method: jwt.SigningMethodEdDSA}, err
	case AlgES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return Key{}, fmt.Errorf("session.GenerateKey: %w", err)
		}
		return Key{ID: id, Alg: alg, private: private, public: &private.PublicKey, method: jwt.SigningMethodES256}, nil
	case AlgHS256:
		secret := make([]byte, minHMACKey)
		for checkSecret(secret) != nil {
			rand.Read(secret)
		}
		return hmacKey(id, secret), nil
	default:
		return Key{}, fmt.Errorf("session.GenerateKey: algorithm %q: want EdDSA, ES256 or HS256", alg)
	}
}

func hmacKey(id string, secret []byte) Key {
	return Key{ID: id, Alg: AlgHS256, private: secret, public: secret, method: jwt.SigningMethodHS256}
}

// Usable reports whether the key may verify tokens at the time now.
func (k *Key) Usable(now time.Time) bool {
	end, ends := k.end()
	return !ends || now.Before(end)
}

// end returns when a retired key stops verifying tokens. If the key is not retired, ends is false.
func (k *Key) end() (at time.Time, ends bool) {
	return k.RetiredAt.Add(MaxAccessTTL + Leeway), k.Status == KeyRetired
}

// NewKeySet returns a set of these keys. At most one key may be active. If no key has a status, the
// first key becomes active and all other keys become published.
func NewKeySet(keys ...Key) (*KeySet, error) {
	if len(keys) == 0 {
		return nil, errors.New("session.NewKeySet: want at least one key")
	}
	set := &KeySet{keys: slices.Clone(keys)}
	if !slices.ContainsFunc(keys, func(k Key) bool { return k.Status != "" }) {
		set.keys[0].Status = KeyActive
	}
	seen := make(map[string]bool, len(keys))
	for i := range set.keys {
		k := &set.keys[i]
		if k.ID == "" || seen[k.ID] {
			return nil, fmt.Errorf("session.NewKeySet: key id %q: want a unique id", k.ID)
		}
		seen[k.ID] = true
		k.Status = cmp.Or(k.Status, KeyPublished)
		switch k.Status {
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
				return nil, fmt.Errorf("session.NewKeySet: retired key %q has no retirement time", k.ID)
			}
		default:
			return nil, fmt.Errorf("session.NewKeySet: key %q: unknown status %q", k.ID, k.Status)
		}
	}
	return set, nil
}

// Keys returns the keys of the set, in the order in which [NewKeySet] received them.
func (s *KeySet) Keys() []Key { return slices.Clone(s.keys) }

// CanSign reports whether the set has an active key with its private part.
func (s *KeySet) CanSign() bool { return s.signer != nil }

// find returns the key with this id. It reports false if the set has no such key, or if the key
// does not verify tokens any more.
func (s *KeySet) find(id string, now time.Time) (*Key, bool) {
	for i := range s.keys {
		if k := &s.keys[i]; k.ID == id {
			return k, k.Usable(now)
		}
	}
	return nil, false
}

// Keyring holds the key set in use, which can be replaced at any time.
type Keyring struct {
	set     atomic.Pointer[KeySet]
	fetcher *keyFetcher // fetches newer keys; nil unless FetchKeys made the Keyring
}

// NewKeyring returns a Keyring with this key set.
func NewKeyring(set *KeySet) *Keyring {
	r := &Keyring{}
	r.Replace(set)
	return r
}

// Replace makes the Keyring sign and verify all further tokens with another key set.
func (r *Keyring) Replace(set *KeySet) { r.set.Store(set) }

// Load returns the key set in use.
func (r *Keyring) Load() *KeySet { return r.set.Load() }
