package sqlstore

import (
	"context"

	"github.com/sessiond/sessiond/identity"
)

// lockedUser is what transactions need of a user while they hold the row.
type lockedUser struct {
	ID              string          `db:"id"`
	Username        string          `db:"username"`
	Email           string          `db:"email"`
	EmailKey        *string         `db:"email_key"`
	Status          identity.Status `db:"status"`
	PasswordVersion int64           `db:"password_version"`
	Generation      int64           `db:"token_gen"`
}

// How a user's row is locked: in share by those who only rely on it, for update by
// those who change the credential or the generation.
var (
	inShare   = newStatement(lockUser + ` FOR SHARE`)
	forUpdate = newStatement(lockUser + ` FOR UPDATE`)
)

const lockUser = `SELECT id, username, email, email_key, status, password_version, token_gen FROM users WHERE id = ?`

// lockUser locks a user's row, a deleted one's too, until the transaction ends;
// none is returned when there is none.
func (t *tx) lockUser(ctx context.Context, how *statement, id string, none error) (lockedUser, error) {
	var user lockedUser
	err := t.get(ctx, &user, none, how, id)
	return user, err
}

// lockLiving is lockUser for users that are not deleted.
func (t *tx) lockLiving(ctx context.Context, how *statement, id string, none error) (lockedUser, error) {
	user, err := t.lockUser(ctx, how, id, none)
	if err == nil && user.Status == identity.StatusDeleted {
		return lockedUser{}, none
	}
	return user, err
}
