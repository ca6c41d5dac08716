package sqlstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// Revoke implements [issuer.Ledger].
func (s *Sessions) Revoke(ctx context.Context, subject, id string, end issuer.Ending) (issuer.Session, issuer.Revocation, error) {
	var ended issuer.Session
	var revocation issuer.Revocation
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) (err error) {
		if _, err = tx.lockRow(ctx, forShare, subject, issuer.ErrNotFound); err != nil {
			return err
		}
		ended, revocation, _, err = tx.revoke(ctx, subject, id, end)
		return err
	})
	return ended, revocation, s.wrap("revoke session "+id, err)
}

// endingRow holds the parameters of the SQL statements that end sessions.
type endingRow struct {
	UserID string
	ID     string // the session to end, or the session to keep while all others end
	At     timestamp
	Reason issuer.Reason
	By     issuer.Actor
	Limit  int
}

var (
	endSession = newStatement(`
		UPDATE sessions SET ended_at = :at, end_reason = :reason, ended_by = :by
		WHERE id = :id AND user_id = :user_id AND ended_at IS NULL AND expires_at > :at
		RETURNING ` + sessionColumns)
	readSession    = newStatement(`SELECT ` + sessionColumns + ` FROM sessions WHERE id = ? AND user_id = ?`)
	outdateSession = newStatement(`UPDATE sessions SET generation = 0 WHERE id = ? AND user_id = ? AND ended_at IS NULL`)
)

// revoke ends one session and adds the revocation to the outbox, even if the session has already
// ended, because Redis may not know that. It reports whether the session was active before. An
// expired session gets generation 0, which no user has. Otherwise a delayed refresh, or a replica
// whose clock is behind, could revive the session. The user must be locked.
func (t *tx) revoke(ctx context.Context, subject, id string, end issuer.Ending) (ended issuer.Session, revocation issuer.Revocation, wasActive bool, err error) {
	var row sessionRow
	var rows []sessionRow
	if err = t.list(ctx, &rows, endSession, endingRow{UserID: subject, ID: id, At: at(end.At), Reason: end.Reason, By: end.By}); err != nil {
		return ended, revocation, false, err
	}
	if wasActive = len(rows) == 1; wasActive {
		row = rows[0]
		err = t.record(ctx, event{At: at(end.At), Type: eventSessionEnded, UserID: subject, SessionID: id, Actor: end.By, Detail: string(end.Reason)})
	} else if err = t.get(ctx, &row, issuer.ErrNotFound, readSession, id, subject); err == nil && row.EndedAt.IsZero() {
		_, err = t.exec(ctx, outdateSession, id, subject)
	}
	if err != nil {
		return ended, revocation, false, err
	}
	ended = row.session()
	revocation, err = t.postRevocation(ctx, issuer.Revocation{Subject: subject, SessionID: id, Until: ended.AccessExpiresAt}, end.At)
	return ended, revocation, wasActive, err
}

// RevokeAll implements [issuer.Ledger].
func (s *Sessions) RevokeAll(ctx context.Context, subject, keep string, end issuer.Ending) ([]issuer.Session, issuer.Revocation, error) {
	var ended []issuer.Session
	var revocation issuer.Revocation
	err := s.db.inLongTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockUser(ctx, forUpdate, subject, issuer.ErrSubjectGone)
		if err != nil {
			return err
		}
		ended, revocation, err = tx.revokeAll(ctx, user, keep, end)
		return err
	})
	return ended, revocation, s.wrap("revoke all sessions of "+subject, err)
}

var (
	raiseGeneration = newStatement(`UPDATE users SET token_gen = ?, token_gen_raised_at = ? WHERE id = ?`)
	keepSession     = newStatement(`
		UPDATE sessions SET generation = ?
		WHERE id = ? AND user_id = ? AND ended_at IS NULL AND expires_at > ?`)
	recordEndings = newStatement(`
		INSERT INTO events (at, type, user_id, session_id, actor, detail)
		SELECT :at::timestamptz, '` + eventSessionEnded + `', user_id, id, :by, :reason FROM sessions
		WHERE user_id = :user_id AND id <> :id AND ended_at IS NULL AND expires_at > :at ORDER BY id LIMIT :limit`)
	endSessions = newStatement(`
		UPDATE sessions SET ended_at = :at, end_reason = :reason, ended_by = :by
		WHERE id IN (SELECT id FROM sessions
			WHERE user_id = :user_id AND id <> :id AND ended_at IS NULL AND expires_at > :at ORDER BY id LIMIT :limit)
		RETURNING ` + sessionColumns)
	newestAccess = newStatement(`SELECT max(access_expires_at) FROM sessions WHERE user_id = ?`)
)

// maxEndedAtOnce limits the sessions that one SQL statement ends, so that the statement meets its time limit.
const maxEndedAtOnce = 5000

// revokeAll raises the user's generation and ends all active sessions of the user, except the session
// whose id is keep. The user must be locked for update, so that no other transaction can start or
// refresh a session.
func (t *tx) revokeAll(ctx context.Context, user lockedUser, keep string, end issuer.Ending) ([]issuer.Session, issuer.Revocation, error) {
	revocation := issuer.Revocation{Subject: user.ID, Generation: user.Generation + 1}
	if _, err := t.exec(ctx, raiseGeneration, revocation.Generation, at(end.At), user.ID); err != nil {
		return nil, revocation, err
	}
	if wellFormed(keep) && keep != "" {
		kept, err := t.exec(ctx, keepSession, revocation.Generation, keep, user.ID, at(end.At))
		if err != nil {
			return nil, revocation, err
		}
		if kept == 1 {
			revocation.Keep = keep
		}
	}
	others := endingRow{UserID: user.ID, ID: revocation.Keep, At: at(end.At), Reason: end.Reason, By: end.By, Limit: maxEndedAtOnce}
	var rows []sessionRow
	for more := true; more; {
		if _, err := t.exec(ctx, recordEndings, others); err != nil {
			return nil, revocation, err
		}
		var some []sessionRow
		if err := t.list(ctx, &some, endSessions, others); err != nil {
			return nil, revocation, err
		}
		rows = append(rows, some...)
		more = len(some) == maxEndedAtOnce
	}
	var until timestamp
	if err := t.get(ctx, &until, nil, newestAccess, user.ID); err != nil {
		return nil, revocation, err
	}
	revocation.Until = until.Time
	if until.IsZero() { // the user has no sessions
		revocation.Until = micros(end.At)
	}
	revocation, err := t.postRevocation(ctx, revocation, end.At)
	slices.SortFunc(rows, func(a, b sessionRow) int { return cmp.Compare(b.ID, a.ID) })
	return sessionsOf(rows), revocation, err
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
