package sqlstore

import (
	"context"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
)

var (
	familyUser = newStatement(`SELECT user_id FROM sessions WHERE refresh_family = ?`)
	lockFamily = newStatement(`
		SELECT ` + sessionColumns + `, refresh_current, refresh_previous, refresh_sealed, refresh_rotated_at` +
		sessionTables + ` WHERE refresh_family = ? FOR UPDATE OF sessions`)
	rotateSession = newStatement(`
		UPDATE sessions SET token_id = :token_id, last_seen_at = :last_seen_at, access_expires_at = :access_expires_at,
			expires_at = :expires_at, refresh_current = :refresh_current, refresh_previous = :refresh_previous,
			refresh_sealed = :refresh_sealed, refresh_rotated_at = :refresh_rotated_at
		WHERE id = :id`)
)

// refreshRow is a session with its refresh tokens. A nil slice is stored as NULL.
type refreshRow struct {
	sessionRow
	RefreshFamily, RefreshCurrent, RefreshPrevious, RefreshSealed []byte
	RefreshRotatedAt                                              timestamp
}

func (r *refreshRow) rotatable() issuer.Rotatable {
	rotatable := issuer.Rotatable{Session: r.session(), Sealed: r.RefreshSealed, RotatedAt: r.RefreshRotatedAt.Time}
	copy(rotatable.Current[:], r.RefreshCurrent)
	copy(rotatable.Previous[:], r.RefreshPrevious)
	return rotatable
}

// rotate changes the row's fields to those of a session with the next refresh token.
func (r *refreshRow) rotate(rotation issuer.Rotation) {
	r.TokenID = rotation.TokenID
	r.LastSeenAt = at(later(r.LastSeenAt.Time, rotation.At))
	r.AccessExpiresAt = at(later(r.AccessExpiresAt.Time, rotation.AccessExpiresAt))
	r.ExpiresAt = at(rotation.ExpiresAt)
	r.RefreshCurrent, r.RefreshPrevious, r.RefreshSealed = rotation.Current[:], nil, rotation.Sealed
	if rotation.Previous != (issuer.Hash{}) {
		r.RefreshPrevious = rotation.Previous[:]
	}
	r.RefreshRotatedAt = at(rotation.RotatedAt)
}

// Rotate implements [issuer.Ledger]. If another transaction causes a rollback, Rotate calls the
// function decide again. Only its last result counts.
func (s *Sessions) Rotate(ctx context.Context, family issuer.Hash, decide func(issuer.Rotatable) (issuer.Rotation, error)) (issuer.Session, *issuer.Revocation, error) {
	var rotated issuer.Session
	var revocation *issuer.Revocation
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		// Read the user's id without a lock, because the user must be locked before the session.
		var subject string
		if err := tx.get(ctx, &subject, issuer.ErrNotFound, familyUser, family[:]); err != nil {
			return err
		}
		user, err := tx.lockRow(ctx, forShare, subject, issuer.ErrNotFound)
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
		// A session below the user's generation was revoked. It is not marked as ended if it had
		// expired, so a replica whose clock is behind would otherwise refresh it.
		if user.Status != identity.StatusActive || row.Generation < user.Generation {
			return issuer.ErrNotFound
		}
		row.rotate(rotation)
		rotated, revocation = row.session(), nil
		_, err = tx.exec(ctx, rotateSession, row)
		return err
	}, familyUser, forShare, lockFamily, rotateSession)
	return rotated, revocation, s.wrap("rotate a refresh token", err)
}

// endRotation ends a session instead of refreshing it, for example after token theft. The user gets
// a mail only if the session was active. Otherwise a thief who reuses the token could cause many
// mails. The address must be confirmed, because it may be a stranger's.
func (t *tx) endRotation(ctx context.Context, user lockedUser, id string, rotation issuer.Rotation) (issuer.Session, *issuer.Revocation, error) {
	end := *rotation.End
	if end.Reason == issuer.ReasonTokenTheft {
		if err := t.record(ctx, event{At: at(end.At), Type: eventRefreshTheft, UserID: user.ID, SessionID: id, Actor: end.By}); err != nil {
			return issuer.Session{}, nil, err
		}
	}
	ended, revocation, wasActive, err := t.revoke(ctx, user, id, end)
	if err != nil {
		return issuer.Session{}, nil, err
	}
	if wasActive && rotation.Notify != "" && user.Status == identity.StatusActive && !user.EmailVerifiedAt.IsZero() {
		notice := mail.Envelope{Kind: mail.Kind(rotation.Notify), UserID: user.ID, To: user.Email}
		if err := t.enqueue(ctx, notice, end.At); err != nil {
			return issuer.Session{}, nil, err
		}
	}
	return ended, &revocation, nil
}

var (
	lockActive   = newStatement(selectSession + ` WHERE id = ? AND user_id = ? AND ` + isOpen + ` FOR UPDATE OF sessions`)
	renewSession = newStatement(`
		UPDATE sessions SET token_id = :token_id, amr = :amr, auth_time = :auth_time, last_seen_at = :last_seen_at,
			access_expires_at = :access_expires_at
		WHERE id = :id`)
)

// Reauthenticate implements [issuer.Ledger].
func (s *Sessions) Reauthenticate(ctx context.Context, re issuer.Reauthentication) (issuer.Session, issuer.Revocation, error) {
	var renewed issuer.Session
	var revocation issuer.Revocation
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockVerified(ctx, forShare, re.Subject, re.CredentialVersion)
		if err != nil {
			return err
		}
		var row sessionRow
		if err := tx.get(ctx, &row, issuer.ErrNotFound, lockActive, re.ID, re.Subject, at(re.At), user.Generation); err != nil {
			return err
		}
		row.TokenID = re.TokenID
		row.AMR = re.AMR
		row.AuthTime = at(re.At)
		row.LastSeenAt = at(later(row.LastSeenAt.Time, re.At))
		row.AccessExpiresAt = at(later(row.AccessExpiresAt.Time, re.AccessExpiresAt))
		if _, err := tx.exec(ctx, renewSession, row); err != nil {
			return err
		}
		renewed = row.session()
		if err := tx.record(ctx, event{At: at(re.At), Type: eventSessionRenewed, UserID: re.Subject, SessionID: re.ID, Actor: issuer.ByUser}); err != nil {
			return err
		}
		revocation, err = tx.revokeToken(ctx, re.Subject, re.ID, re.ReplacedTokenID, re.ReplacedExpiresAt, re.At)
		return err
	})
	return renewed, revocation, s.wrap("reauthenticate session "+re.ID, err)
}
