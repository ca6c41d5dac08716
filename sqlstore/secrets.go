package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/sessiond/sessiond/session"
)

var (
	addSecret = newStatement(`
		INSERT INTO secrets (name, value, created_at) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING`)
	readSecret = newStatement(`SELECT value FROM secrets WHERE name = ?`)
)

// secretSize is in bytes.
const secretSize = 32

var errNoSecret = errors.New("sqlstore: the row device_tokens of the table secrets does not hold 32 bytes; without it a new one is made")

// DeviceSecret is what device tokens are made and known by: random bytes that all
// replicas share, and that whoever asks first makes. It is no key of sessions: who
// knows it gets a place in the queue of logins. [session.ErrUnavailable].
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
