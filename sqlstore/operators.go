package sqlstore

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/session/issuer"
)

// actor returns who ends sessions: the user, unless the context has an act of an operator.
func actor(ctx context.Context) issuer.Actor {
	if _, ok := audit.Of(ctx); ok {
		return issuer.ByAdministrator
	}
	return issuer.ByUser
}

var setStatus = newStatement(`UPDATE users SET status = ?, updated_at = ? WHERE id = ?`)

// Suspend implements [identity.Store].
func (u *Users) Suspend(ctx context.Context, id string, now time.Time) (revocation int64, err error) {
	err = u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockUser(ctx, forUpdate, id, identity.ErrNotFound)
		if err != nil {
			return err
		}
		if user.Status == identity.StatusPending {
			return identity.ErrNotActive
		}
		if err := tx.changeStatus(ctx, user, identity.StatusSuspended, eventUserSuspended, now); err != nil {
			return err
		}
		revoked, err := tx.revokeAll(ctx, user, "", issuer.Ending{At: now, Reason: issuer.ReasonSuspended, By: actor(ctx)})
		revocation = revoked.ID
		return err
	})
	return revocation, u.wrap("suspend user "+id, err)
}

// Reinstate implements [identity.Store].
func (u *Users) Reinstate(ctx context.Context, id string, now time.Time) error {
	return u.wrap("reinstate user "+id, u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockUser(ctx, forUpdate, id, identity.ErrNotFound)
		if err != nil {
			return err
		}
		if user.Status == identity.StatusPending {
			return identity.ErrNotActive
		}
		return tx.changeStatus(ctx, user, identity.StatusActive, eventUserReinstated, now)
	}))
}

// changeStatus gives a locked user another status. It does nothing if the user already has that status.
func (t *tx) changeStatus(ctx context.Context, user lockedUser, to identity.Status, eventType string, now time.Time) error {
	if user.Status == to {
		return nil
	}
	if _, err := t.exec(ctx, setStatus, string(to), at(now), user.ID); err != nil {
		return err
	}
	return t.record(ctx, event{At: at(now), Type: eventType, UserID: user.ID, Before: string(user.Status), After: string(to)})
}

// found holds the parameters of the statements that find users.
type found struct {
	Least, Below       string // bounds of the folded names
	AfterName, AfterID string
	Status             identity.Status
	Role               string
	Limit              int
}

// findBy returns a statement that finds users in the order of a column, which has an index.
func findBy(column, condition string) *statement {
	return newStatement(`SELECT ` + userColumns + ` FROM users
		WHERE ` + column + ` >= :least AND (` + column + `, id) > (:after_name, :after_id) AND ` + column + ` < :below AND ` + condition + `
		AND (:role = '' OR EXISTS (SELECT 1 FROM user_roles WHERE role = :role AND user_id = id))
		ORDER BY ` + column + `, id LIMIT :limit`)
}

// withStatus is the condition that a user has the wanted status.
const withStatus = `status <> 'deleted' AND (:status = '' OR status = :status)`

var (
	findByID       = newStatement(`SELECT ` + userColumns + ` FROM users WHERE id > :after_id AND ` + withStatus + ` ORDER BY id LIMIT :limit`)
	findByStatus   = newStatement(`SELECT ` + userColumns + ` FROM users WHERE status = :status AND id > :after_id ORDER BY id LIMIT :limit`)
	findByUsername = findBy("username_key", withStatus)
	findByEmail    = findBy("email_key", withStatus)
	findByClaim    = findBy("claim_key", withStatus+` AND status = 'pending'`) // an active user has only claimed it
	findByRole     = newStatement(`SELECT ` + userColumns + ` FROM user_roles JOIN users ON id = user_id
		WHERE role = :role AND user_id > :after_id AND ` + withStatus + ` ORDER BY user_id LIMIT :limit`)
)

// afterAll sorts after every folded name. A prefix with it sorts after all that begins with the prefix.
const afterAll = "\U0010FFFF"

// Find implements [identity.Store]. Each statement reads an index in its order, so that a page takes the
// same time however many users there are.
func (u *Users) Find(ctx context.Context, q identity.UserQuery) ([]identity.User, error) {
	row := found{
		Least: q.Prefix, Below: q.Prefix + afterAll, AfterName: q.After.Name, AfterID: q.After.ID,
		Status: q.Status, Role: q.Role, Limit: q.Limit,
	}
	var statements []*statement
	switch {
	case strings.Contains(q.Prefix, "@"):
		statements = []*statement{findByEmail, findByClaim}
	case q.Prefix != "":
		statements = []*statement{findByUsername}
	case q.Role != "":
		statements = []*statement{findByRole}
	case q.Status != "":
		statements = []*statement{findByStatus}
	default:
		statements = []*statement{findByID}
	}
	var users []identity.User
	for _, s := range statements {
		var rows []userRow
		if err := u.db.list(ctx, &rows, s, row); err != nil {
			return nil, u.wrap("find users", err)
		}
		for i := range rows {
			users = append(users, rows[i].user())
		}
	}
	slices.SortFunc(users, func(a, b identity.User) int {
		x, y := q.Key(&a), q.Key(&b)
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
	})
	users = slices.CompactFunc(users, func(a, b identity.User) bool { return a.ID == b.ID })
	return users[:min(len(users), q.Limit)], nil
}
