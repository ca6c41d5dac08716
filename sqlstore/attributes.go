package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session"
)

var (
	forgetRoles = newStatement(`DELETE FROM user_roles WHERE user_id = ?`)
	insertRole  = newStatement(`INSERT INTO user_roles (role, user_id) VALUES (?, ?)`)
	// waitingRevocation returns the newest revocation of a user that is not enforced yet, or 0.
	waitingRevocation = newStatement(`SELECT coalesce(max(id), 0) FROM outbox WHERE user_id = ? AND topic = ?`)
	setAttributes     = newStatement(`UPDATE users SET roles = ?, claims = ?, updated_at = ? WHERE id = ?`)
	moveSessions      = newStatement(`UPDATE sessions SET generation = ? WHERE user_id = ? AND ` + isOpen)
)

// SetAttributes implements [identity.Store]. It moves all open sessions of the user to a new generation. So
// what Redis knows of them is out of date, and the next check of each reads the new attributes.
func (u *Users) SetAttributes(ctx context.Context, id string, change identity.AttributeChange, now time.Time) (revocation int64, err error) {
	err = u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		revocation = 0
		user, err := tx.lockUser(ctx, forUpdate, id, identity.ErrNotFound)
		if err != nil {
			return err
		}
		roles, claims := user.Roles, user.Claims
		if change.Roles != nil {
			roles = session.NewRoles(*change.Roles...)
		}
		if change.Claims != nil {
			claims = *change.Claims
		}
		if roles == user.Roles && claims == user.Claims {
			// An earlier call may have made the same change, and not enforced it.
			return tx.get(ctx, &revocation, nil, waitingRevocation, id, topicRevocation)
		}
		if _, err := tx.exec(ctx, setAttributes, string(roles), claims, at(now), id); err != nil {
			return err
		}
		if roles != user.Roles {
			if err := tx.setRoles(ctx, id, roles); err != nil {
				return err
			}
			if err := tx.record(ctx, event{At: at(now), Type: eventRolesChanged, UserID: id, Before: string(user.Roles), After: string(roles)}); err != nil {
				return err
			}
		}
		if claims != user.Claims {
			if err := tx.record(ctx, event{At: at(now), Type: eventClaimsChanged, UserID: id, Before: user.Claims, After: claims}); err != nil {
				return err
			}
		}
		raised, err := tx.raise(ctx, user, now)
		if err != nil {
			return err
		}
		if _, err := tx.exec(ctx, moveSessions, raised.Generation, id, at(now), user.Generation); err != nil {
			return err
		}
		raised, err = tx.postRevocation(ctx, raised, now)
		revocation = raised.ID
		return err
	})
	return revocation, u.wrap("set the attributes of "+id, err)
}

// setRoles replaces the rows of a user in the table user_roles.
func (t *tx) setRoles(ctx context.Context, id string, roles session.Roles) error {
	if _, err := t.exec(ctx, forgetRoles, id); err != nil {
		return err
	}
	for _, role := range roles.List() {
		if _, err := t.exec(ctx, insertRole, role, id); err != nil {
			return err
		}
	}
	return nil
}
