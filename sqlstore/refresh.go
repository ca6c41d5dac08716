package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
)

var (
	familyUser = newStatement(`
		SELECT user_id FROM sessions WHERE refresh_family = ?`)
	lockFamily = newStatement(`
		SELECT ` + sessionColumns + `, refresh_current, refresh_previous, refresh_sealed, refresh_rotated_at
		FROM sessions WHERE refresh_family = ? FOR UPDATE`)
	rotateSession = newStatement(`
		UPDATE sessions SET token_id = ?, last_seen_at = ?, access_expires_at = ?, expires_at = ?,
			refresh_current = ?, refresh_previous = ?, refresh_sealed = ?, refresh_rotated_at = ?
		WHERE id = ?`)
)

type refreshRow struct {
	sessionRow
	Current   []byte `db:"refresh_current"`
	Previous  []byte `db:"refresh_previous"`
	Sealed    []byte `db:"refresh_sealed"`
	RotatedAt stamp  `db:"refresh_rotated_at"`
}

func (r *refreshRow) rotatable() issuer.Rotatable {
	rotatable := issuer.Rotatable{Session: r.session(), Sealed: r.Sealed, RotatedAt: r.RotatedAt.Time}
	copy(rotatable.Current[:], r.Current)
	copy(rotatable.Previous[:], r.Previous)
	return rotatable
}

// Rotate implements [issuer.Ledger]. It asks decide again when the database had
// to undo the transaction; the last decision counts.
func (s *Sessions) Rotate(ctx context.Context, family issuer.Hash, decide func(issuer.Rotatable) (issuer.Rotation, error)) (issuer.Session, *issuer.Revocation, error) {
	var rotated issuer.Session
	var revocation *issuer.Revocation
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		// The user comes first in the order of locks, and who it is never changes.
		var subject string
		if err := tx.get(ctx, &subject, issuer.ErrNotFound, familyUser, family[:]); err != nil {
			return err
		}
		user, err := tx.lockUser(ctx, inShare, subject, issuer.ErrNotFound)
		if err != nil {
			return err
		}
		var row refreshRow
		if err := tx.get(ctx, &row, issuer.ErrNotFound, lockFamily, family[:]); err != nil {
			return err
		}
		rotation, err := decide(row.rotatable())
		if err != nil {
			return err
		}
		if rotation.End != nil {
			rotated, revocation, err = tx.endRotation(ctx, user, row.ID, rotation)
			return err
		}
		// What had expired when the generation was raised was not marked as
		// ended. A replica whose clock is behind must not revive it.
		if user.Status != identity.StatusActive || row.Generation < user.Generation {
			return issuer.ErrNotFound
		}
		rotated = row.session()
		rotated.TokenID = rotation.TokenID
		rotated.LastSeenAt = later(row.LastSeenAt.Time, micros(rotation.At))
		rotated.AccessExpiresAt = later(row.AccessExpiresAt.Time, micros(rotation.AccessExpiresAt))
		rotated.ExpiresAt = micros(rotation.ExpiresAt)
		revocation = nil
		_, err = tx.exec(ctx, rotateSession, rotated.TokenID, at(rotated.LastSeenAt), at(rotated.AccessExpiresAt), at(rotated.ExpiresAt),
			rotation.Current[:], hashOrNull(rotation.Previous), bytesOrNull(rotation.Sealed), at(rotation.RotatedAt), row.ID)
		return err
	}, familyUser, inShare, lockFamily, rotateSession)
	if err != nil {
		return issuer.Session{}, nil, s.wrap("rotate a refresh token", err)
	}
	return rotated, revocation, nil
}

// endRotation ends the session as decide wants it. The user is told once: a thief
// who comes again must not be able to send mail at will.
func (t *tx) endRotation(ctx context.Context, user lockedUser, id string, rotation issuer.Rotation) (issuer.Session, *issuer.Revocation, error) {
	end := *rotation.End
	if end.Reason == issuer.ReasonTokenTheft {
		if err := t.record(ctx, event{at: end.At, kind: eventRefreshTheft, user: user.ID, session: id, actor: end.By}); err != nil {
			return issuer.Session{}, nil, err
		}
	}
	ended, revocation, changed, err := t.end(ctx, user.ID, id, end)
	if err != nil {
		return issuer.Session{}, nil, err
	}
	if changed && rotation.Notify != "" && user.Status == identity.StatusActive {
		mail := mail.Envelope{Kind: mail.Kind(rotation.Notify), UserID: user.ID, To: user.Email, Name: user.Username}
		if err := t.enqueue(ctx, mail, end.At); err != nil {
			return issuer.Session{}, nil, err
		}
	}
	return ended, &revocation, nil
}

var renewSession = newStatement(`
	UPDATE sessions SET token_id = ?, amr = ?, auth_time = ?, last_seen_at = ?, access_expires_at = ? WHERE id = ?`)

var lockActive = newStatement(`
	SELECT ` + sessionColumns + ` FROM sessions
	WHERE id = ? AND user_id = ? AND generation = ? AND ended_at IS NULL AND expires_at > ? FOR UPDATE`)

// Reauthenticate implements [issuer.Ledger].
func (s *Sessions) Reauthenticate(ctx context.Context, re issuer.Reauthentication) (issuer.Session, error) {
	var renewed issuer.Session
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.proven(ctx, inShare, re.Subject, re.CredentialVersion)
		if err != nil {
			return err
		}
		var row sessionRow
		if err := tx.get(ctx, &row, issuer.ErrNotFound, lockActive, re.ID, re.Subject, user.Generation, at(re.At)); err != nil {
			return err
		}
		renewed = row.session()
		renewed.TokenID = re.TokenID
		renewed.AMR = re.AMR
		renewed.AuthTime = micros(re.At)
		renewed.LastSeenAt = later(renewed.LastSeenAt, micros(re.At))
		renewed.AccessExpiresAt = later(renewed.AccessExpiresAt, micros(re.AccessExpiresAt))
		if _, err := tx.exec(ctx, renewSession, renewed.TokenID, renewed.AMR, at(renewed.AuthTime), at(renewed.LastSeenAt),
			at(renewed.AccessExpiresAt), re.ID); err != nil {
			return err
		}
		return tx.record(ctx, event{at: re.At, kind: eventSessionRenewed, user: re.Subject, session: re.ID, actor: issuer.ByUser})
	})
	if err != nil {
		return issuer.Session{}, s.wrap("reauthenticate session "+re.ID, err)
	}
	return renewed, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func hashOrNull(h issuer.Hash) any {
	if h == (issuer.Hash{}) {
		return nil
	}
	return h[:]
}

func bytesOrNull(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}
