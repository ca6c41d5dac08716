package hashing

import (
	"context"

	"golang.org/x/crypto/bcrypt"
)

// Engine runs bcrypt. It returns the errors of [bcrypt], [ErrUnavailable] if bcrypt could not be run,
// and ctx's error.
type Engine interface {
	// Compare returns nil if hash is a hash of secret, and [bcrypt.ErrMismatchedHashAndPassword] if
	// it is not.
	Compare(ctx context.Context, hash, secret []byte) error
	// Generate returns a new hash of secret.
	Generate(ctx context.Context, secret []byte, cost int) ([]byte, error)
}

// inProcess runs x/crypto's bcrypt in this process.
type inProcess struct{}

func (inProcess) Compare(_ context.Context, hash, secret []byte) error {
	return bcrypt.CompareHashAndPassword(hash, secret)
}

func (inProcess) Generate(_ context.Context, secret []byte, cost int) ([]byte, error) {
	return bcrypt.GenerateFromPassword(secret, cost)
}
