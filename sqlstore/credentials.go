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

var setPassword = newStatement(`UPDATE users SET password_hash = ?, password_version = password_version + 1, updated_at = ? WHERE id = ?`)

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

var verifyUser = newStatement(`UPDATE users SET email_verified_at = ?, status = ?, updated_at = ? WHERE id = ?`)

// ResetPassword implements [identity.Store]. It also confirms the user's mail address, because a
// client with the mailed token can read mail to that address. A user who had not confirmed the
// address becomes active, and the mailed token for confirming the address is deleted.
func (u *Users) ResetPassword(ctx context.Context, token identity.TokenHash, userID, hash string, now time.Time, notice mail.Envelope) (int64, error) {
	var revocation int64
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockUser(ctx, forUpdate, userID, identity.ErrInvalidToken)
		if err != nil {
			return err
		}
		if err := tx.useToken(ctx, token, identity.PurposeReset, user.ID, now); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, forgetMailToken, user.ID, string(identity.PurposeVerify)); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, verifyUser, at(now), string(identity.StatusActive), at(now), user.ID); err != nil {
			return err
		}
		revocation, err = tx.changePassword(ctx, user, hash, "", notice, eventPasswordReset,
			issuer.Ending{At: now, Reason: issuer.ReasonPasswordReset, By: issuer.ByUser})
		return err
	})
	return revocation, u.wrap("reset the password of "+userID, err)
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
	return revoked.ID, t.enqueue(ctx, notice, end.At)
}
