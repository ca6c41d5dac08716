package sqlstore

import (
	"context"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session"
)

// lockedUser holds the columns that a transaction needs of a user whose row it has locked.
type lockedUser struct {
	ID, Username, Email string
	EmailKey, ClaimKey  *string
	EmailVerifiedAt     timestamp
	Status              identity.Status
	Roles               session.Roles
	Claims              string
	PasswordVersion     int64
	Generation          int64 `db:"token_gen"`
}

// A transaction locks a user's row FOR SHARE if it relies on the user's password and generation,
// and FOR UPDATE if it changes either of them.
var (
	forShare  = newStatement(selectLocked + ` FOR SHARE`)
	forUpdate = newStatement(selectLocked + ` FOR UPDATE`)
)

const selectLocked = `SELECT id, username, email, email_key, claim_key, email_verified_at, status, roles, claims, password_version, token_gen FROM users WHERE id = ?`

// lockRow locks a user's row until the transaction ends, even if the user is deleted. It returns
// notFound if the user has no row.
func (t *tx) lockRow(ctx context.Context, mode *statement, id string, notFound error) (lockedUser, error) {
	var user lockedUser
	err := t.get(ctx, &user, notFound, mode, id)
	return user, err
}

// lockUser is like lockRow, but also returns notFound if the user is deleted.
func (t *tx) lockUser(ctx context.Context, mode *statement, id string, notFound error) (lockedUser, error) {
	user, err := t.lockRow(ctx, mode, id, notFound)
	if err == nil && user.Status == identity.StatusDeleted {
		return lockedUser{}, notFound
	}
	return user, err
}
