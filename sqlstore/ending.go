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
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		if _, err := tx.lockUser(ctx, inShare, subject, issuer.ErrNotFound); err != nil {
			return err
		}
		var err error
		ended, revocation, _, err = tx.end(ctx, subject, id, end)
		return err
	})
	if err != nil {
		return issuer.Session{}, issuer.Revocation{}, s.wrap("revoke session "+id, err)
	}
	return ended, revocation, nil
}

var (
	endSession = newStatement(`
		UPDATE sessions SET ended_at = ?, end_reason = ?, ended_by = ?
		WHERE id = ? AND user_id = ? AND ended_at IS NULL AND expires_at > ?
		RETURNING ` + sessionColumns)
	readSession = newStatement(`
		SELECT ` + sessionColumns + ` FROM sessions WHERE id = ? AND user_id = ?`)
	outdateSession = newStatement(`
		UPDATE sessions SET generation = 0 WHERE id = ? AND user_id = ? AND ended_at IS NULL`)
)

// end ends one session of a user whose row is locked and records the revocation;
// changed tells whether it was active until now. One that had ended stays as it
// is, and is revoked nevertheless: the store may not have learned of it. One that
// has expired keeps its history and gets a generation that no user has, lest a
// refresh which took its time before, or by a clock that is behind, revive it.
func (t *tx) end(ctx context.Context, subject, id string, end issuer.Ending) (ended issuer.Session, revocation issuer.Revocation, changed bool, err error) {
	var row sessionRow
	var rows []sessionRow
	if err = t.list(ctx, &rows, endSession, at(end.At), string(end.Reason), string(end.By), id, subject, at(end.At)); err != nil {
		return ended, revocation, false, err
	}
	if changed = len(rows) == 1; changed {
		row = rows[0]
		err = t.record(ctx, event{at: end.At, kind: eventSessionEnded, user: subject, session: id, actor: end.By, detail: string(end.Reason)})
	} else if err = t.get(ctx, &row, issuer.ErrNotFound, readSession, id, subject); err == nil && row.EndedAt.IsZero() {
		_, err = t.exec(ctx, outdateSession, id, subject)
	}
	if err != nil {
		return ended, revocation, false, err
	}
	ended = row.session()
	revocation, err = t.owe(ctx, issuer.Revocation{Subject: subject, SessionID: id, Until: ended.AccessExpiresAt}, end.At)
	return ended, revocation, changed, err
}

// RevokeAll implements [issuer.Ledger].
func (s *Sessions) RevokeAll(ctx context.Context, subject, keep string, end issuer.Ending) ([]issuer.Session, issuer.Revocation, error) {
	var ended []issuer.Session
	var revocation issuer.Revocation
	err := s.db.inLongTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockLiving(ctx, forUpdate, subject, issuer.ErrSubjectGone)
		if err != nil {
			return err
		}
		ended, revocation, err = tx.endAll(ctx, user, keep, end)
		return err
	})
	if err != nil {
		return nil, issuer.Revocation{}, s.wrap("revoke all sessions of "+subject, err)
	}
	return ended, revocation, nil
}

var (
	raiseGeneration = newStatement(`
		UPDATE users SET token_gen = ?, token_gen_raised_at = ? WHERE id = ?`)
	keepSession = newStatement(`
		UPDATE sessions SET generation = ?
		WHERE id = ? AND user_id = ? AND ended_at IS NULL AND expires_at > ?`)
	recordEndings = newStatement(`
		INSERT INTO events (at, type, user_id, session_id, actor, detail)
		SELECT ?::timestamptz, ?, user_id, id, ?, ? FROM sessions
		WHERE user_id = ? AND id <> ? AND ended_at IS NULL AND expires_at > ? ORDER BY id LIMIT ?`)
	endSessions = newStatement(`
		UPDATE sessions SET ended_at = ?, end_reason = ?, ended_by = ?
		WHERE id IN (SELECT id FROM sessions
			WHERE user_id = ? AND id <> ? AND ended_at IS NULL AND expires_at > ? ORDER BY id LIMIT ?)
		RETURNING ` + sessionColumns)
	newestAccess = newStatement(`
		SELECT max(access_expires_at) FROM sessions WHERE user_id = ?`)
)

// endedAtOnce keeps a statement that ends many sessions within the time of one.
const endedAtOnce = 5000

// endAll raises the generation of a user who is locked for update and ends all
// active sessions but keep, if that is one of them. Nobody else touches the
// user's sessions meanwhile: that takes a share of the lock.
func (t *tx) endAll(ctx context.Context, user lockedUser, keep string, end issuer.Ending) ([]issuer.Session, issuer.Revocation, error) {
	revocation := issuer.Revocation{Subject: user.ID, Generation: user.Generation + 1}
	if _, err := t.exec(ctx, raiseGeneration, revocation.Generation, at(end.At), user.ID); err != nil {
		return nil, revocation, err
	}
	if wellFormed([]any{keep}) && keep != "" {
		kept, err := t.exec(ctx, keepSession, revocation.Generation, keep, user.ID, at(end.At))
		if err != nil {
			return nil, revocation, err
		}
		if kept == 1 {
			revocation.Keep = keep
		}
	}
	var rows []sessionRow
	for more := true; more; {
		if _, err := t.exec(ctx, recordEndings, at(end.At), eventSessionEnded, string(end.By), string(end.Reason),
			user.ID, revocation.Keep, at(end.At), endedAtOnce); err != nil {
			return nil, revocation, err
		}
		var some []sessionRow
		if err := t.list(ctx, &some, endSessions, at(end.At), string(end.Reason), string(end.By),
			user.ID, revocation.Keep, at(end.At), endedAtOnce); err != nil {
			return nil, revocation, err
		}
		rows = append(rows, some...)
		more = len(some) == endedAtOnce
	}
	var until stamp
	if err := t.get(ctx, &until, nil, newestAccess, user.ID); err != nil {
		return nil, revocation, err
	}
	revocation.Until = until.Time
	if until.IsZero() { // never signed in
		revocation.Until = micros(end.At)
	}
	revocation, err := t.owe(ctx, revocation, end.At)
	slices.SortFunc(rows, func(a, b sessionRow) int { return cmp.Compare(b.ID, a.ID) })
	return sessionsOf(rows), revocation, err
}

var (
	lockSession = newStatement(`
		SELECT id FROM sessions WHERE id = ? AND user_id = ? FOR UPDATE`)
	forgetExpiredTokens = newStatement(`
		DELETE FROM revoked_tokens WHERE session_id = ? AND expires_at <= ?`)
	insertRevokedToken = newStatement(`
		INSERT INTO revoked_tokens (session_id, jti, user_id, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`)
)

// RevokeToken implements [issuer.Ledger]; [issuer.ErrNotFound] when this subject
// has no such session.
func (s *Sessions) RevokeToken(ctx context.Context, subject, id, tokenID string, expiry, now time.Time) (issuer.Revocation, error) {
	var revocation issuer.Revocation
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		var locked string
		if err := tx.get(ctx, &locked, issuer.ErrNotFound, lockSession, id, subject); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, forgetExpiredTokens, id, at(now.Add(-issuer.Margin))); err != nil {
			return err
		}
		added, err := tx.exec(ctx, insertRevokedToken, id, tokenID, subject, at(expiry))
		if err != nil {
			return err
		}
		if added == 1 {
			if err := tx.record(ctx, event{at: now, kind: eventTokenRevoked, user: subject, session: id, actor: issuer.ByUser, detail: tokenID}); err != nil {
				return err
			}
		}
		revocation, err = tx.owe(ctx, issuer.Revocation{Subject: subject, SessionID: id, TokenID: tokenID, Until: micros(expiry)}, now)
		return err
	})
	if err != nil {
		return issuer.Revocation{}, s.wrap("revoke a token of session "+id, err)
	}
	return revocation, nil
}
