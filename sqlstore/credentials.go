package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
)

var rehash = newStatement(`UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?`)

// Rehash implements [identity.Store].
func (u *Users) Rehash(ctx context.Context, id, old, hash string) error {
	err := u.db.exec(ctx, rehash, hash, id, old)
	return u.wrap("rehash the password of "+id, err)
}

// setPassword also removes a pending address: a thief may have set it before the owner changed the password.
var setPassword = newStatement(`
	UPDATE users SET password_hash = ?, password_version = password_version + 1, updated_at = ?,
		pending_email = '', pending_email_at = NULL, claim_key = NULL
	WHERE id = ?`)

// SetPassword implements [identity.Store].
func (u *Users) SetPassword(ctx context.Context, id string, fromVersion int64, hash, keep string, now time.Time, notice mail.Envelope) (int64, error) {
	var revocation int64
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockUser(ctx, forUpdate, id, identity.ErrNotFound)
		if err != nil {
			return err
		}
		if user.PasswordVersion != fromVersion {
			return identity.ErrPasswordChanged
		}
		revocation, err = tx.changePassword(ctx, user, hash, keep, notice, eventPasswordChanged,
			issuer.Ending{At: now, Reason: issuer.ReasonPasswordChanged, By: issuer.ByUser})
		return err
	})
	return revocation, u.wrap("set the password of "+id, err)
}

var endDeviceTokens = newStatement(`UPDATE users SET device_generation = device_generation + 1 WHERE id = ?`)

// ResetPassword implements [identity.Store]. It also confirms the user's mail address, because a
// client with the mailed token can read mail to that address. A user who had not confirmed the
// address becomes active, and the mailed token for confirming an address is deleted.
func (u *Users) ResetPassword(ctx context.Context, token identity.TokenHash, userID, hash string, now time.Time, notice mail.Envelope) (int64, error) {
	var revocation int64
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		locked, user, err := tx.lockAndRead(ctx, userID, identity.ErrInvalidToken)
		if err != nil {
			return err
		}
		key, err := tx.useToken(ctx, token, identity.PurposeReset, userID, identity.FoldEmail(user.Email), now)
		if err == nil && key != identity.FoldEmail(user.Email) { // the user has left that address since
			err = identity.ErrInvalidToken
		}
		if err != nil {
			return err
		}
		if _, err := tx.exec(ctx, forgetMailToken, userID, string(identity.PurposeConfirm)); err != nil {
			return err
		}
		if err := tx.confirm(ctx, user, user.Email, now); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, endDeviceTokens, userID); err != nil {
			return err
		}
		revocation, err = tx.changePassword(ctx, locked, hash, "", notice, eventPasswordReset,
			issuer.Ending{At: now, Reason: issuer.ReasonPasswordReset, By: issuer.ByUser})
		return err
	})
	return revocation, u.wrapConfirm("reset the password of "+userID, err)
}

// changePassword stores a new password hash and revokes all sessions of the user, except the session
// whose id is keep. It queues the notification mail about the change. The user must be locked.
func (t *tx) changePassword(ctx context.Context, user lockedUser, hash, keep string, notice mail.Envelope, eventType string, end issuer.Ending) (revocation int64, err error) {
	if _, err := t.exec(ctx, setPassword, hash, at(end.At), user.ID); err != nil {
		return 0, err
	}
	if _, err := t.exec(ctx, forgetMailToken, user.ID, string(identity.PurposeReset)); err != nil {
		return 0, err
	}
	if err := t.record(ctx, event{At: at(end.At), Type: eventType, UserID: user.ID, Actor: end.By}); err != nil {
		return 0, err
	}
	revoked, err := t.revokeAll(ctx, user, keep, end)
	if err != nil {
		return 0, err
	}
	return revoked.ID, t.notify(ctx, notice, end.At)
}
