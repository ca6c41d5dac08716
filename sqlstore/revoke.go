package sqlstore

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// Revoke implements [issuer.Ledger].
func (s *Sessions) Revoke(ctx context.Context, subject, id string, end issuer.Ending) (issuer.Session, issuer.Revocation, error) {
	var ended issuer.Session
	var revocation issuer.Revocation
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) (err error) {
		user, err := tx.lockRow(ctx, forShare, subject, issuer.ErrNotFound)
		if err != nil {
			return err
		}
		ended, revocation, _, err = tx.revoke(ctx, user, id, end)
		return err
	})
	return ended, revocation, s.wrap("revoke session "+id, err)
}

// endingRow holds the parameters of the SQL statements that end sessions.
type endingRow struct {
	UserID     string
	Generation int64  // the user's generation, below which sessions have already ended
	ID         string // the session to end, or the session to keep while all others end
	At         timestamp
	Reason     issuer.Reason
	By         issuer.Actor
}

var (
	endSession = newStatement(`
		UPDATE sessions SET ended_at = :at, end_reason = :reason, ended_by = :by
		WHERE id = :id AND user_id = :user_id AND ended_at IS NULL AND expires_at > :at AND generation = :generation`)
	readSession    = newStatement(selectSession + ` WHERE id = ? AND user_id = ?`)
	outdateSession = newStatement(`UPDATE sessions SET generation = 0 WHERE id = ? AND user_id = ? AND ended_at IS NULL`)
)

// revoke ends one session and adds the revocation to the outbox, even if the session has already
// ended, because Redis may not know that. It reports whether the session was active before. An
// expired session gets generation 0, which no user has. Otherwise a delayed refresh, or a replica
// whose clock is behind, could revive the session.
func (t *tx) revoke(ctx context.Context, user lockedUser, id string, end issuer.Ending) (ended issuer.Session, revocation issuer.Revocation, wasActive bool, err error) {
	n, err := t.exec(ctx, endSession, endingRow{UserID: user.ID, Generation: user.Generation, ID: id, At: at(end.At), Reason: end.Reason, By: end.By})
	if errors.Is(err, errMalformed) {
		err = issuer.ErrNotFound
	}
	if err != nil {
		return ended, revocation, false, err
	}
	var row sessionRow
	if err = t.get(ctx, &row, issuer.ErrNotFound, readSession, id, user.ID); err != nil {
		return ended, revocation, false, err
	}
	if wasActive = n == 1; wasActive {
		err = t.record(ctx, event{At: at(end.At), Type: eventSessionEnded, UserID: user.ID, SessionID: id, Actor: end.By, Detail: string(end.Reason)})
	} else if row.EndedAt.IsZero() {
		_, err = t.exec(ctx, outdateSession, id, user.ID)
	}
	if err != nil {
		return ended, revocation, false, err
	}
	ended = row.session()
	revocation, err = t.postRevocation(ctx, issuer.Revocation{Subject: user.ID, SessionID: id, Reason: end.Reason, Until: ended.AccessExpiresAt}, end.At)
	return ended, revocation, wasActive, err
}

// RevokeAll implements [issuer.Ledger].
func (s *Sessions) RevokeAll(ctx context.Context, subject, keep string, end issuer.Ending) (issuer.Ended, issuer.Revocation, error) {
	var ended issuer.Ended
	var revocation issuer.Revocation
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockUser(ctx, forUpdate, subject, issuer.ErrSubjectGone)
		if err != nil {
			return err
		}
		if revocation, err = tx.revokeAll(ctx, user, keep, end); err != nil {
			return err
		}
		// Generation is that from before, because the sessions that ended still have it.
		others := endingRow{UserID: user.ID, Generation: user.Generation, ID: revocation.Keep, At: at(end.At)}
		if err := tx.get(ctx, &ended.Count, nil, countOthers, others); err != nil {
			return err
		}
		var rows []sessionRow
		if err := tx.list(ctx, &rows, listOthers, others); err != nil {
			return err
		}
		ended.Newest = sessionsOf(rows)
		return nil
	})
	return ended, revocation, s.wrap("revoke all sessions of "+subject, err)
}

var (
	raiseGeneration = newStatement(`UPDATE users SET token_gen = ?, token_gen_raised_at = ? WHERE id = ?`)
	keepSession     = newStatement(`UPDATE sessions SET generation = ? WHERE id = ? AND user_id = ? AND ` + isOpen)
	// recordEnding ends all other sessions of the user. It adds no row if there are none.
	recordEnding = newStatement(`
		INSERT INTO session_endings (owner_id, below, at, reason, actor)
		SELECT id, token_gen, :at::timestamptz, :reason, :by FROM users
		WHERE id = :user_id AND EXISTS (SELECT 1 FROM sessions WHERE ` + isOther + `)`)
	countOthers  = newStatement(`SELECT count(*) FROM sessions WHERE ` + isOther)
	listOthers   = newStatement(selectSession + ` WHERE ` + isOther + ` ORDER BY id DESC LIMIT ` + strconv.Itoa(issuer.MaxEndedNewest))
	newestAccess = newStatement(`SELECT max(access_expires_at) FROM sessions WHERE user_id = ?`)
)

// isOther is the condition that a session is open in the generation of an endingRow and not the one to keep.
const isOther = `user_id = :user_id AND generation = :generation AND ended_at IS NULL AND expires_at > :at AND id <> :id`

// revokeAll raises the user's generation. That ends all active sessions of the user, except the session
// whose id is keep, which moves to the new generation. It takes the same time however many sessions end.
// The user must be locked for update, so that no other transaction can start or refresh a session.
func (t *tx) revokeAll(ctx context.Context, user lockedUser, keep string, end issuer.Ending) (issuer.Revocation, error) {
	revocation, err := t.raise(ctx, user, end.At)
	if err != nil {
		return revocation, err
	}
	revocation.Reason = end.Reason
	if wellFormed(keep) && keep != "" {
		kept, err := t.exec(ctx, keepSession, revocation.Generation, keep, user.ID, at(end.At), user.Generation)
		if err != nil {
			return revocation, err
		}
		if kept == 1 {
			revocation.Keep = keep
		}
	}
	others := endingRow{UserID: user.ID, Generation: user.Generation, ID: revocation.Keep, At: at(end.At), Reason: end.Reason, By: end.By}
	recorded, err := t.exec(ctx, recordEnding, others)
	if err != nil {
		return revocation, err
	}
	if recorded == 1 {
		err = t.record(ctx, event{At: at(end.At), Type: eventSessionsEnded, UserID: user.ID, SessionID: revocation.Keep, Actor: end.By, Detail: string(end.Reason)})
		if err != nil {
			return revocation, err
		}
	}
	return t.postRevocation(ctx, revocation, end.At)
}

// raise raises the user's generation, and returns the revocation that raises it in the store. The user must
// be locked for update.
func (t *tx) raise(ctx context.Context, user lockedUser, now time.Time) (issuer.Revocation, error) {
	revocation := issuer.Revocation{Subject: user.ID, Generation: user.Generation + 1, Until: micros(now)}
	if _, err := t.exec(ctx, raiseGeneration, revocation.Generation, at(now), user.ID); err != nil {
		return revocation, err
	}
	var until timestamp
	err := t.get(ctx, &until, nil, newestAccess, user.ID)
	if !until.IsZero() { // the user has sessions
		revocation.Until = until.Time
	}
	return revocation, err
}

var (
	lockSession         = newStatement(`SELECT id FROM sessions WHERE id = ? AND user_id = ? FOR UPDATE`)
	forgetExpiredTokens = newStatement(`DELETE FROM revoked_tokens WHERE session_id = ? AND expires_at <= ?`)
	insertRevokedToken  = newStatement(`INSERT INTO revoked_tokens (session_id, jti, user_id, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`)
)

// RevokeToken implements [issuer.Ledger]. It returns [issuer.ErrNotFound] if the user has no
// session with this id.
func (s *Sessions) RevokeToken(ctx context.Context, subject, id, tokenID string, expiry, now time.Time) (issuer.Revocation, error) {
	var revocation issuer.Revocation
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) (err error) {
		var locked string
		if err := tx.get(ctx, &locked, issuer.ErrNotFound, lockSession, id, subject); err != nil {
			return err
		}
		revocation, err = tx.revokeToken(ctx, subject, id, tokenID, expiry, now)
		return err
	})
	return revocation, s.wrap("revoke a token of session "+id, err)
}

// revokeToken records a revoked access token of a session, which must be locked.
func (t *tx) revokeToken(ctx context.Context, subject, id, tokenID string, expiry, now time.Time) (issuer.Revocation, error) {
	if _, err := t.exec(ctx, forgetExpiredTokens, id, at(now.Add(-issuer.Margin))); err != nil {
		return issuer.Revocation{}, err
	}
	added, err := t.exec(ctx, insertRevokedToken, id, tokenID, subject, at(expiry))
	if err == nil && added == 1 {
		err = t.record(ctx, event{At: at(now), Type: eventTokenRevoked, UserID: subject, SessionID: id, Actor: issuer.ByUser, Detail: tokenID})
	}
	if err != nil {
		return issuer.Revocation{}, err
	}
	return t.postRevocation(ctx, issuer.Revocation{Subject: subject, SessionID: id, TokenID: tokenID, Until: micros(expiry)}, now)
}
