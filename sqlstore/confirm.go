package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
)

var (
	emailConfirmed = newStatement(`SELECT count(*) FROM users WHERE email_key = ? AND id <> ? AND email_verified_at IS NOT NULL`)
	// takeEmail takes an address from a user who has not confirmed it.
	takeEmail = newStatement(`UPDATE users SET email = '', email_key = NULL WHERE email_key = ? AND id <> ? AND email_verified_at IS NULL`)
	setEmail  = newStatement(`
		UPDATE users SET ` + assignments([]string{
		"email", "email_key", "claim_key", "pending_email", "pending_email_at", "email_verified_at", "status", "updated_at",
	}) + ` WHERE id = :id`)
)

// confirm makes an address the confirmed address of a user, who must be locked for update. It returns
// identity.ErrInvalidToken if another user has confirmed that address.
func (t *tx) confirm(ctx context.Context, user identity.User, address string, now time.Time) error {
	key := identity.FoldEmail(address)
	if err := t.checkFree(ctx, identity.ErrInvalidToken, emailConfirmed, key, user.ID); err != nil {
		return err
	}
	if _, err := t.exec(ctx, takeEmail, key, user.ID); err != nil {
		return err
	}
	user.Email, user.PendingEmail, user.PendingEmailAt = address, "", time.Time{}
	user.EmailVerifiedAt, user.UpdatedAt = now, now
	if user.Status == identity.StatusPending {
		user.Status = identity.StatusActive
	}
	_, err := t.exec(ctx, setEmail, withKeys(user))
	return err
}

// ConfirmEmail implements [identity.Store].
func (u *Users) ConfirmEmail(ctx context.Context, hash identity.TokenHash, proven bool, now time.Time) error {
	return u.wrapConfirm("confirm an address", u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		var owner userRow
		if err := tx.get(ctx, &owner, identity.ErrInvalidToken, userByToken, hash[:], string(identity.PurposeConfirm), earlierPurpose(identity.PurposeConfirm), at(now)); err != nil {
			return err
		}
		// While the user is locked, no other transaction can use the token or change the address.
		_, user, err := tx.lockAndRead(ctx, owner.ID, identity.ErrInvalidToken)
		if err != nil {
			return err
		}
		if !proven {
			if err := tx.checkFree(ctx, identity.ErrPasswordRequired, otherClaims, hash[:], at(now)); err != nil {
				return err
			}
		}
		key, err := tx.useToken(ctx, hash, identity.PurposeConfirm, user.ID, identity.FoldEmail(user.Email), now)
		if err != nil {
			return err
		}
		address, changed := user.Email, false
		switch {
		case user.PendingEmail != "" && key == identity.FoldEmail(user.PendingEmail):
			address, changed = user.PendingEmail, user.Email != ""
		case key != identity.FoldEmail(user.Email) || !user.EmailVerifiedAt.IsZero():
			return identity.ErrInvalidToken
		}
		if err := tx.confirm(ctx, user, address, now); err != nil {
			return err
		}
		done := event{At: at(now), Type: eventEmailVerified, UserID: user.ID, Actor: issuer.ByUser}
		if changed {
			done.Type = eventEmailChanged
		}
		return tx.record(ctx, done)
	}))
}

// wrapConfirm is like wrap. A value that is not unique means that another replica has confirmed the
// address at the same time.
func (u *Users) wrapConfirm(operation string, err error) error {
	if _, ok := u.db.dialect.unique(err); ok {
		return identity.ErrInvalidToken
	}
	return u.wrap(operation, err)
}

// lockAndRead locks a user for update and then reads the user.
func (t *tx) lockAndRead(ctx context.Context, id string, notFound error) (lockedUser, identity.User, error) {
	locked, err := t.lockUser(ctx, forUpdate, id, notFound)
	if err != nil {
		return locked, identity.User{}, err
	}
	var row userRow
	err = t.get(ctx, &row, notFound, userByID, id)
	return locked, row.user(), err
}

// undoRow is a row of the table email_changes.
type undoRow struct {
	Hash                 []byte
	UserID, Email        string
	ChangedAt, ExpiresAt timestamp
	UsedAt               timestamp
}

var (
	insertUndo = newStatement(`
		INSERT INTO email_changes (hash, user_id, email, changed_at, expires_at)
		VALUES (:hash, :user_id, :email, :changed_at, :expires_at)`)
	readUndo = newStatement(`
		SELECT hash, user_id, email, changed_at, expires_at FROM email_changes WHERE hash = ? AND expires_at > ? AND used_at IS NULL`)
	// undone counts the undos that ended a change at this time, by the holder of another address. A notice
	// of that change must not bring it back.
	undone = newStatement(`
		SELECT count(*) FROM email_changes WHERE user_id = ? AND used_at >= ? AND changed_at <= ? AND email <> ?`)
	undosOf  = newStatement(`SELECT user_id, email, changed_at, expires_at, used_at FROM email_changes WHERE user_id = ? ORDER BY changed_at, expires_at`)
	markUndo = newStatement(`UPDATE email_changes SET used_at = ? WHERE hash = ?`)
	// forgetLaterUndos keeps the undos of earlier changes. Otherwise a thief, who holds the later address,
	// could take away the owner's right to undo the first change.
	forgetLaterUndos = newStatement(`DELETE FROM email_changes WHERE user_id = ? AND changed_at >= ? AND hash <> ?`)
	undoEmails       = newStatement(`SELECT DISTINCT email FROM email_changes WHERE user_id = ? AND expires_at > ? AND email <> ?`)
	forgetUndosOf    = newStatement(`DELETE FROM email_changes WHERE user_id = ?`)
	forgetUndos      = newStatement(`
		WITH old AS MATERIALIZED (
			SELECT hash FROM email_changes WHERE expires_at < ? ORDER BY expires_at LIMIT ? FOR UPDATE SKIP LOCKED
		)
		DELETE FROM email_changes WHERE hash IN (SELECT hash FROM old)`)
	forgetClaims = newStatement(`
		UPDATE users SET pending_email = '', pending_email_at = NULL, claim_key = NULL WHERE id IN (
			SELECT id FROM users WHERE claim_key IS NOT NULL AND pending_email_at < ? LIMIT ? FOR UPDATE SKIP LOCKED)`)
)

// IssueUndo implements [identity.Store].
func (u *Users) IssueUndo(ctx context.Context, hash identity.TokenHash, undo identity.Undo) error {
	return u.wrap("issue an undo for "+undo.UserID, u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		if _, err := tx.lockUser(ctx, forShare, undo.UserID, identity.ErrNotFound); err != nil {
			return err
		}
		changed := at(undo.ChangedAt)
		if err := tx.checkFree(ctx, identity.ErrNotFound, undone, undo.UserID, changed, changed, undo.Email); err != nil {
			return err
		}
		_, err := tx.exec(ctx, insertUndo, undoRow{
			Hash: hash[:], UserID: undo.UserID, Email: undo.Email, ChangedAt: changed, ExpiresAt: at(undo.ExpiresAt),
		})
		return err
	}))
}

// UndosOf implements [identity.Store].
func (u *Users) UndosOf(ctx context.Context, userID string) ([]identity.Undo, error) {
	var rows []undoRow
	if err := u.db.list(ctx, &rows, undosOf, userID); err != nil {
		return nil, u.wrap("read the changes of address of "+userID, err)
	}
	undos := make([]identity.Undo, len(rows))
	for i, r := range rows {
		undos[i] = identity.Undo{UserID: r.UserID, Email: r.Email, ChangedAt: r.ChangedAt.Time, ExpiresAt: r.ExpiresAt.Time, UsedAt: r.UsedAt.Time}
	}
	return undos, nil
}

// UndoEmailChange implements [identity.Store].
func (u *Users) UndoEmailChange(ctx context.Context, hash identity.TokenHash, passwordHash string, now time.Time) (int64, error) {
	var revocation int64
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		var undo undoRow
		if err := tx.get(ctx, &undo, identity.ErrInvalidToken, readUndo, hash[:], at(now)); err != nil {
			return err
		}
		locked, user, err := tx.lockAndRead(ctx, undo.UserID, identity.ErrInvalidToken)
		if err != nil {
			return err
		}
		// Read the undo again while the user is locked, because another transaction may have used it.
		if err := tx.get(ctx, &undo, identity.ErrInvalidToken, readUndo, hash[:], at(now)); err != nil {
			return err
		}
		if err := tx.confirm(ctx, user, undo.Email, now); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, markUndo, at(now), hash[:]); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, forgetLaterUndos, user.ID, undo.ChangedAt, hash[:]); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, forgetMailTokens, user.ID); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, setPassword, passwordHash, at(now), user.ID); err != nil {
			return err
		}
		if err := tx.record(ctx, event{At: at(now), Type: eventEmailUndone, UserID: user.ID, Actor: issuer.ByUser}); err != nil {
			return err
		}
		revoked, err := tx.revokeAll(ctx, locked, "", issuer.Ending{At: now, Reason: issuer.ReasonEmailUndone, By: issuer.ByUser})
		if err != nil {
			return err
		}
		revocation = revoked.ID
		return tx.enqueue(ctx, mail.Envelope{Kind: mail.KindPasswordReset, UserID: user.ID, To: undo.Email}, now)
	})
	return revocation, u.wrapConfirm("undo a change of address", err)
}

// ForgetUndos implements [identity.Store].
func (u *Users) ForgetUndos(ctx context.Context, before time.Time, limit int) (int, error) {
	return u.forget(ctx, forgetUndos, before, limit)
}

// ForgetPendingEmails implements [identity.Store].
func (u *Users) ForgetPendingEmails(ctx context.Context, before time.Time, limit int) (int, error) {
	return u.forget(ctx, forgetClaims, before, limit)
}

func (u *Users) forget(ctx context.Context, old *statement, before time.Time, limit int) (int, error) {
	var n int64
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) (err error) {
		n, err = tx.exec(ctx, old, at(before), max(limit, 0))
		return err
	})
	return int(n), u.wrap("forget old changes of address", err)
}
