package hashing

import (
	"context"

	"golang.org/x/crypto/bcrypt"
)

// Engine runs bcrypt. Its errors are those of [bcrypt], [ErrUnavailable] when it
// could not be run, and that of ctx.
type Engine interface {
	// Compare returns nil when hash is that of secret, and
	// [bcrypt.ErrMismatchedHashAndPassword] when it is not.
	Compare(ctx context.Context, hash, secret []byte) error
	// Generate returns a new hash of secret.
	Generate(ctx context.Context, secret []byte, cost int) ([]byte, error)
}

// inProcess runs bcrypt right here.
type inProcess struct{}

func (inProcess) Compare(_ context.Context, hash, secret []byte) error {
	return bcrypt.CompareHashAndPassword(hash, secret)
}

func (inProcess) Generate(_ context.Context, secret []byte, cost int) ([]byte, error) {
	return bcrypt.GenerateFromPassword(secret, cost)
}
