package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
)

var (
	// issueToken replaces the user's earlier mailed token for the same purpose.
	issueToken = newStatement(`
		INSERT INTO mail_tokens (user_id, purpose, hash, issued_at, expires_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (user_id, purpose) DO UPDATE
		SET hash = excluded.hash, issued_at = excluded.issued_at, expires_at = excluded.expires_at`)
	useToken         = newStatement(`DELETE FROM mail_tokens WHERE hash = ? AND purpose = ? AND user_id = ? AND expires_at > ?`)
	forgetMailToken  = newStatement(`DELETE FROM mail_tokens WHERE user_id = ? AND purpose = ?`)
	forgetMailTokens = newStatement(`DELETE FROM mail_tokens WHERE user_id = ?`)
	userByToken      = newStatement(`
		SELECT ` + userColumns + ` FROM users WHERE deleted_at IS NULL AND id =
			(SELECT user_id FROM mail_tokens WHERE hash = ? AND purpose = ? AND mail_tokens.expires_at > ?)`)
)

// IssueToken implements [identity.Store]. It compares the mail address while the user is locked,
// because a concurrent change of address deletes only the mailed tokens that exist at that time.
func (u *Users) IssueToken(ctx context.Context, userID, to string, purpose identity.Purpose, hash identity.TokenHash, expires, now time.Time) error {
	return u.wrap("issue a mailed token for "+userID, u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockUser(ctx, forShare, userID, identity.ErrNotFound)
		if err != nil {
			return err
		}
		if user.EmailKey == nil || *user.EmailKey != identity.Fold(to) {
			return identity.ErrNotFound
		}
		_, err = tx.exec(ctx, issueToken, userID, string(purpose), hash[:], at(now), at(expires))
		return err
	}))
}

// TokenUser implements [identity.Store].
func (u *Users) TokenUser(ctx context.Context, purpose identity.Purpose, hash identity.TokenHash, now time.Time) (identity.User, error) {
	var row userRow
	if err := u.db.get(ctx, &row, identity.ErrInvalidToken, userByToken, hash[:], string(purpose), at(now)); err != nil {
		return identity.User{}, u.wrap("read the user of a mailed token", err)
	}
	return row.user(), nil
}

// VerifyEmail implements [identity.Store].
func (u *Users) VerifyEmail(ctx context.Context, hash identity.TokenHash, now time.Time) error {
	return u.wrap("verify an address", u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		var owner userRow
		if err := tx.get(ctx, &owner, identity.ErrInvalidToken, userByToken, hash[:], string(identity.PurposeVerify), at(now)); err != nil {
			return err
		}
		// While the user is locked, no other transaction can use the mailed token.
		if _, err := tx.lockUser(ctx, forUpdate, owner.ID, identity.ErrInvalidToken); err != nil {
			return err
		}
		if err := tx.useToken(ctx, hash, identity.PurposeVerify, owner.ID, now); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, verifyUser, at(now), string(identity.StatusActive), at(now), owner.ID); err != nil {
			return err
		}
		return tx.record(ctx, event{At: at(now), Type: eventEmailVerified, UserID: owner.ID, Actor: issuer.ByUser})
	}))
}

// useToken deletes a mailed token. It returns identity.ErrInvalidToken if the token does not exist
// or has expired. The caller has locked the user for update.
func (t *tx) useToken(ctx context.Context, hash identity.TokenHash, purpose identity.Purpose, userID string, now time.Time) error {
	used, err := t.exec(ctx, useToken, hash[:], string(purpose), userID, at(now))
	if err == nil && used == 0 {
		return identity.ErrInvalidToken
	}
	return err
}

var (
	mailTokensOfUser = newStatement(`SELECT purpose, issued_at, expires_at FROM mail_tokens WHERE user_id = ? ORDER BY issued_at, purpose`)
	mailsOfUser      = newStatement(`SELECT id, payload, queued_at, attempts FROM outbox WHERE user_id = ? AND topic = ? ORDER BY id`)
)

// MailsOf implements [identity.Store].
func (u *Users) MailsOf(ctx context.Context, userID string) ([]identity.MailedToken, []mail.Envelope, error) {
	var rows []struct {
		identity.MailedToken
		IssuedAt, ExpiresAt timestamp
	}
	var queued []outboxRow
	err := u.db.list(ctx, &rows, mailTokensOfUser, userID)
	if err == nil {
		err = u.db.list(ctx, &queued, mailsOfUser, userID, topicMail)
	}
	if err != nil {
		return nil, nil, u.wrap("read the mails of "+userID, err)
	}
	tokens := make([]identity.MailedToken, len(rows))
	for i, r := range rows {
		tokens[i] = identity.MailedToken{Purpose: r.Purpose, IssuedAt: r.IssuedAt.Time, ExpiresAt: r.ExpiresAt.Time}
	}
	mails, err := envelopes(queued)
	return tokens, mails, err
}
