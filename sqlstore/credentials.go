package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
)

var rehash = newStatement(`
	UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?`)

// Rehash implements [identity.Store].
func (u *Users) Rehash(ctx context.Context, id, old, hash string) error {
	err := u.db.exec(ctx, rehash, hash, id, old)
	return u.wrap("rehash the password of "+id, err)
}

var setPassword = newStatement(`
	UPDATE users SET password_hash = ?, password_version = password_version + 1, updated_at = ? WHERE id = ?`)

// SetPassword implements [identity.Store].
func (u *Users) SetPassword(ctx context.Context, id string, fromVersion int64, hash, keep string, now time.Time, mail mail.Envelope) (int64, error) {
	var revocation int64
	err := u.db.inLongTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockLiving(ctx, forUpdate, id, identity.ErrNotFound)
		if err != nil {
			return err
		}
		if user.PasswordVersion != fromVersion {
			return identity.ErrPasswordChanged
		}
		revocation, err = tx.changePassword(ctx, user, hash, keep, mail, change{now, issuer.ReasonPasswordChanged, eventPasswordChanged})
		return err
	})
	if err != nil {
		return 0, u.wrap("set the password of "+id, err)
	}
	return revocation, nil
}

var (
	useToken = newStatement(`
		DELETE FROM mail_tokens WHERE hash = ? AND purpose = ? AND user_id = ? AND expires_at > ?`)
	verifyUser = newStatement(`
		UPDATE users SET email_verified_at = ?, status = ?, updated_at = ? WHERE id = ?`)
)

// ResetPassword implements [identity.Store]. Whoever can read the user's mail has
// confirmed the address too, so a pending user becomes active; the link that was to
// do so is forgotten.
func (u *Users) ResetPassword(ctx context.Context, token identity.TokenHash, userID, hash string, now time.Time, mail mail.Envelope) (int64, error) {
	var revocation int64
	err := u.db.inLongTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockLiving(ctx, forUpdate, userID, identity.ErrInvalidToken)
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
		revocation, err = tx.changePassword(ctx, user, hash, "", mail, change{now, issuer.ReasonPasswordReset, eventPasswordReset})
		return err
	})
	if err != nil {
		return 0, u.wrap("reset the password of "+userID, err)
	}
	return revocation, nil
}

func (t *tx) useToken(ctx context.Context, token identity.TokenHash, purpose identity.Purpose, userID string, now time.Time) error {
	used, err := t.exec(ctx, useToken, token[:], string(purpose), userID, at(now))
	if err == nil && used == 0 {
		return identity.ErrInvalidToken
	}
	return err
}

// change says when and why a password changes.
type change struct {
	at     time.Time
	reason issuer.Reason
	event  string
}

// changePassword stores a new hash for a user locked for update, and ends what
// the old password opened.
func (t *tx) changePassword(ctx context.Context, user lockedUser, hash, keep string, mail mail.Envelope, c change) (revocation int64, err error) {
	if _, err := t.exec(ctx, setPassword, hash, at(c.at), user.ID); err != nil {
		return 0, err
	}
	if _, err := t.exec(ctx, forgetMailToken, user.ID, string(identity.PurposeReset)); err != nil {
		return 0, err
	}
	if err := t.record(ctx, event{at: c.at, kind: c.event, user: user.ID, actor: issuer.ByUser}); err != nil {
		return 0, err
	}
	_, owed, err := t.endAll(ctx, user, keep, issuer.Ending{At: c.at, Reason: c.reason, By: issuer.ByUser})
	if err != nil {
		return 0, err
	}
	return owed.ID, t.enqueue(ctx, mail, c.at)
}

var eraseUser = newStatement(`
	UPDATE users SET username = '', username_key = NULL, email = '', email_key = NULL, first_name = '', last_name = '',
		password_hash = '', email_verified_at = NULL, status = ?, updated_at = ?, deleted_at = ? WHERE id = ?`)

// Delete implements [identity.Store].
func (u *Users) Delete(ctx context.Context, id string, now time.Time, mail mail.Envelope) (int64, error) {
	var revocation int64
	err := u.db.inLongTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockLiving(ctx, forUpdate, id, identity.ErrNotFound)
		if err != nil {
			return err
		}
		_, owed, err := tx.endAll(ctx, user, "", issuer.Ending{At: now, Reason: issuer.ReasonAccountDeleted, By: issuer.ByUser})
		if err != nil {
			return err
		}
		revocation = owed.ID
		if _, err := tx.exec(ctx, forgetMailTokens, id); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, eraseUser, string(identity.StatusDeleted), at(now), at(now), id); err != nil {
			return err
		}
		if err := tx.record(ctx, event{at: now, kind: eventUserDeleted, user: id, actor: issuer.ByUser}); err != nil {
			return err
		}
		return tx.enqueue(ctx, mail, now)
	})
	if err != nil {
		return 0, u.wrap("delete user "+id, err)
	}
	return revocation, nil
}

var insertAttempt = newStatement(`
	INSERT INTO login_attempts (id, user_id, ip, user_agent, device, reason, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`)

// RecordAttempt implements [identity.Store]. The same statements run when there is
// no user, or the time that they take would tell.
func (u *Users) RecordAttempt(ctx context.Context, a identity.Attempt) error {
	return u.wrap("record a failed login of "+a.UserID, u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, gone := &a.UserID, identity.ErrNotFound
		if a.UserID == "" {
			user, gone = nil, nil
		}
		if _, err := tx.lockLiving(ctx, inShare, a.UserID, gone); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, insertAttempt, a.ID, user, clean(a.IP), clean(a.UserAgent), clean(a.Device), a.Reason, at(a.At)); err != nil {
			return err
		}
		return tx.record(ctx, event{at: a.At, kind: eventLoginFailed, user: a.UserID, detail: a.Reason})
	}))
}
