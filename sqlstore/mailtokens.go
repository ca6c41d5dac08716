package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
)

var (
	// issueToken replaces the user's earlier mailed token for the same purpose.
	issueToken = newStatement(`
		INSERT INTO mail_tokens (user_id, purpose, hash, email_key, issued_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (user_id, purpose) DO UPDATE
		SET hash = excluded.hash, email_key = excluded.email_key, issued_at = excluded.issued_at, expires_at = excluded.expires_at`)
	useToken = newStatement(`
		DELETE FROM mail_tokens WHERE hash = ? AND purpose IN (?, ?) AND user_id = ? AND expires_at > ? RETURNING email_key`)
	forgetMailToken  = newStatement(`DELETE FROM mail_tokens WHERE user_id = ? AND purpose = ?`)
	forgetMailTokens = newStatement(`DELETE FROM mail_tokens WHERE user_id = ?`)
	// userByToken finds no user who has left the address that the token was mailed to. Tokens of an
	// earlier release have no address.
	userByToken = newStatement(`
		SELECT ` + userColumns + ` FROM mail_tokens JOIN users ON id = user_id
		WHERE hash = ? AND purpose IN (?, ?) AND expires_at > ? AND deleted_at IS NULL
			AND (mail_tokens.email_key IS NULL OR mail_tokens.email_key = users.email_key OR mail_tokens.email_key = claim_key)`)
	// otherClaims counts the other users who got a link to the same address and still claim it.
	otherClaims = newStatement(`
		SELECT count(*) FROM mail_tokens AS other
		JOIN mail_tokens AS used ON other.email_key = used.email_key AND other.purpose = used.purpose AND other.user_id <> used.user_id
		JOIN users ON users.id = other.user_id AND (users.email_key = other.email_key OR users.claim_key = other.email_key)
		WHERE used.hash = ? AND other.expires_at > ?`)
)

// earlierPurpose returns the name that replicas of the release before use for a purpose.
func earlierPurpose(p identity.Purpose) string {
	if p == identity.PurposeConfirm {
		return "verify"
	}
	return string(p)
}

// IssueToken implements [identity.Store]. It compares the mail address while the user is locked,
// because a token for another address must not replace a good one.
func (u *Users) IssueToken(ctx context.Context, userID, to string, purpose identity.Purpose, hash identity.TokenHash, expires, now time.Time) error {
	return u.wrap("issue a mailed token for "+userID, u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockUser(ctx, forShare, userID, identity.ErrNotFound)
		if err != nil {
			return err
		}
		key := identity.FoldEmail(to)
		if (user.EmailKey == nil || *user.EmailKey != key) && (user.ClaimKey == nil || *user.ClaimKey != key) {
			return identity.ErrNotFound
		}
		// A link to an address that another user has confirmed could only fail.
		if err := tx.checkFree(ctx, identity.ErrNotFound, emailConfirmed, key, userID); err != nil {
			return err
		}
		_, err = tx.exec(ctx, issueToken, userID, string(purpose), hash[:], key, at(now), at(expires))
		return err
	}))
}

// TokenUser implements [identity.Store].
func (u *Users) TokenUser(ctx context.Context, purpose identity.Purpose, hash identity.TokenHash, now time.Time) (identity.User, error) {
	var row userRow
	if err := u.db.get(ctx, &row, identity.ErrInvalidToken, userByToken, hash[:], string(purpose), earlierPurpose(purpose), at(now)); err != nil {
		return identity.User{}, u.wrap("read the user of a mailed token", err)
	}
	return row.user(), nil
}

// useToken deletes a mailed token and returns the folded address that it was mailed to. For a token of an
// earlier release that is the address fallback. It returns identity.ErrInvalidToken if the token does not
// exist or has expired. The caller has locked the user for update.
func (t *tx) useToken(ctx context.Context, hash identity.TokenHash, purpose identity.Purpose, userID, fallback string, now time.Time) (string, error) {
	var key *string
	err := t.get(ctx, &key, identity.ErrInvalidToken, useToken, hash[:], string(purpose), earlierPurpose(purpose), userID, at(now))
	if err == nil && key != nil {
		fallback = *key
	}
	return fallback, err
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
