package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/sessiond/sessiond/session"
)

var (
	addSecret  = newStatement(`INSERT INTO secrets (name, value, created_at) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING`)
	readSecret = newStatement(`SELECT value FROM secrets WHERE name = ?`)
)

const secretSize = 32 // bytes

var errNoSecret = errors.New("sqlstore: the secret device_tokens in the table secrets must have 32 bytes; delete its row to create a new secret")

// DeviceSecret returns the secret with which device tokens are made and verified. All replicas
// share the secret, and the first call creates it. An attacker who knows the secret gets a better
// place in the queue of logins, but no access to sessions. DeviceSecret returns
// [session.ErrUnavailable] if the database does not answer.
func (db *DB) DeviceSecret(ctx context.Context) ([]byte, error) {
	secret, err := db.secret(ctx, "device_tokens")
	return secret, wrap("read the secret of device tokens", session.ErrUnavailable, err)
}

func (db *DB) secret(ctx context.Context, name string) ([]byte, error) {
	now, err := db.now(ctx)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, secretSize)
	rand.Read(secret)
	if err := db.exec(ctx, addSecret, name, secret, at(now)); err != nil {
		return nil, err
	}
	if err := db.get(ctx, &secret, errNoSecret, readSecret, name); err != nil {
		return nil, err
	}
	if len(secret) != secretSize {
		return nil, errNoSecret
	}
	return secret, nil
}
