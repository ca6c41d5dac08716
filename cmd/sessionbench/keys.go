package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sessiond/sessiond/session"
)

// key signs tokens and verifies them.
type key struct {
	id      string
	method  jwt.SigningMethod
	private any
	public  any
}

// keys are those of a run, one for each algorithm, which is what they go by.
type keys map[string]key

// writeKeys makes a key file, as serve reads it, with a key of every algorithm.
// The first one is active; all of them verify.
func writeKeys(path string) error {
	var made []session.Key
	for _, alg := range []string{session.AlgEdDSA, session.AlgES256, session.AlgHS256} {
		k, err := session.GenerateKey(alg)
		if err != nil {
			return err
		}
		made = append(made, k)
	}
	set, err := session.NewKeySet(made...)
	if err != nil {
		return err
	}
	data, err := set.PrivateJSON()
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// readKeys reads what writeKeys wrote, for golang-jwt.
func readKeys(path string) (keys, error) {
	data, err := os.ReadFile(path) //nolint:gosec // G304: a file of our own making
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	var set struct {
		Keys []struct{ Kid, Alg, D, K string }
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("read the keys in %s: not JSON", path)
	}
	ks := keys{}
	for _, j := range set.Keys {
		secret, err := base64.RawURLEncoding.DecodeString(j.D + j.K) // a key has the one or the other
		if err != nil {
			return nil, fmt.Errorf("key %s is not base64url", j.Kid)
		}
		k := key{id: j.Kid}
		switch j.Alg {
		case session.AlgEdDSA:
			private := ed25519.NewKeyFromSeed(secret)
			k.method, k.private, k.public = jwt.SigningMethodEdDSA, private, private.Public()
		case session.AlgES256:
			private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret)
			if err != nil {
				return nil, fmt.Errorf("key %s is no scalar of P-256", j.Kid)
			}
			k.method, k.private, k.public = jwt.SigningMethodES256, private, &private.PublicKey
		case session.AlgHS256:
			k.method, k.private, k.public = jwt.SigningMethodHS256, secret, secret
		}
		ks[j.Alg] = k
	}
	return ks, nil
}
