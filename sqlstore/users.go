package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// Users is the user store in an SQL database. It implements [identity.Store] and [mail.Outbox].
type Users struct{ db *DB }

var (
	_ identity.Store = (*Users)(nil)
	_ mail.Outbox    = (*Users)(nil)
)

func (u *Users) wrap(operation string, err error) error {
	return wrap(operation, identity.ErrUnavailable, err)
}

// userRow is a row of the table users. A new field of [identity.User] needs a column with its name
// in snake case, which is then read, inserted, updated and erased. If [identity.Profile] gets the
// same field, withProfile needs a line too. The time fields of userRow are used in place of those
// in identity.User, because SQLite stores times as text.
type userRow struct {
	identity.User
	EmailVerifiedAt, PendingEmailAt, CreatedAt, UpdatedAt timestamp
}

func (r *userRow) user() identity.User {
	u := r.User
	u.EmailVerifiedAt, u.PendingEmailAt = r.EmailVerifiedAt.Time, r.PendingEmailAt.Time
	u.CreatedAt, u.UpdatedAt = r.CreatedAt.Time, r.UpdatedAt.Time
	return u
}

// keyedUser is a user with the case-folded username and address, which must be unique, and the case-folded
// address that the user claims, which need not be: see migration 7.
type keyedUser struct {
	userRow
	UsernameKey        string
	EmailKey, ClaimKey *string
}

func withKeys(u identity.User) keyedUser {
	row := keyedUser{
		userRow:     userRow{u, at(u.EmailVerifiedAt), at(u.PendingEmailAt), at(u.CreatedAt), at(u.UpdatedAt)},
		UsernameKey: identity.Fold(u.Username),
	}
	if u.Email != "" {
		row.EmailKey = new(identity.FoldEmail(u.Email))
	}
	if u.Status == identity.StatusPending {
		row.EmailKey, row.ClaimKey = nil, row.EmailKey
	}
	if u.PendingEmail != "" {
		row.ClaimKey = new(identity.FoldEmail(u.PendingEmail))
	}
	return row
}

// withProfile returns u with the fields of p that are not nil, except the email address.
func withProfile(u identity.User, p identity.Profile) identity.User {
	set := func(field, given *string) {
		if given != nil {
			*field = *given
		}
	}
	set(&u.FirstName, p.FirstName)
	set(&u.LastName, p.LastName)
	return u
}

var (
	userColumns = strings.Join(columns[userRow](), ", ")
	insertUser  = newStatement(`
		INSERT INTO users (` + strings.Join(columns[keyedUser](), ", ") + `)
		VALUES (:` + strings.Join(columns[keyedUser](), ", :") + `)`)
	updateUser = newStatement(`
		UPDATE users SET ` + assignments(columns[keyedUser]("id", "username", "username_key",
		"password_hash", "password_version", "status", "created_at")) + ` WHERE id = :id`)
	// eraseUser erases all personal data of a user: it overwrites every column of userRow except
	// those that are named here. A new column is erased unless it is named here.
	eraseUser = newStatement(`
		UPDATE users SET ` + assignments(columns[userRow]("id", "password_version", "created_at")) + `,
			username_key = NULL, email_key = NULL, claim_key = NULL, deleted_at = :updated_at
		WHERE id = :id`)

	userByID       = newStatement(`SELECT ` + userColumns + ` FROM users WHERE id = ? AND deleted_at IS NULL`)
	userByUsername = newStatement(`SELECT ` + userColumns + ` FROM users WHERE username_key = ?`)
	userByEmail    = newStatement(`
		SELECT ` + userColumns + ` FROM users WHERE email_key = ? OR claim_key = ? AND status = 'pending'
		ORDER BY email_key IS NULL, created_at DESC, id LIMIT 1`)
)

// ByID implements [identity.Store].
func (u *Users) ByID(ctx context.Context, id string) (identity.User, error) {
	return u.read(ctx, "by id", userByID, id)
}

// ByUsername implements [identity.Store].
func (u *Users) ByUsername(ctx context.Context, username string) (identity.User, error) {
	return u.read(ctx, "by username", userByUsername, identity.Fold(username))
}

// ByEmail implements [identity.Store].
func (u *Users) ByEmail(ctx context.Context, email string) (identity.User, error) {
	key := identity.FoldEmail(email)
	return u.read(ctx, "by email", userByEmail, key, key)
}

func (u *Users) read(ctx context.Context, by string, s *statement, keys ...any) (identity.User, error) {
	var row userRow
	if err := u.db.get(ctx, &row, identity.ErrNotFound, s, keys...); err != nil {
		return identity.User{}, u.wrap("read a user "+by, err)
	}
	return row.user(), nil
}

var (
	lockStale = newStatement(`
		SELECT id FROM users
		WHERE status = ? AND created_at < ? AND username_key = ? FOR UPDATE`)
	// The status is a constant. With a parameter, SQLite would ignore the partial index users_pending.
	lockOldestPending = newStatement(`
		SELECT id FROM users
		WHERE status = 'pending' AND created_at < ? ORDER BY created_at LIMIT ? FOR UPDATE SKIP LOCKED`)
	usernameTaken = newStatement(`SELECT count(*) FROM users WHERE username_key = ?`)
	emailTaken    = newStatement(`SELECT count(*) FROM users WHERE email_key = ? AND id <> ?`)
)

// The names of the unique constraints in the migrations.
const (
	usernameUnique = "users_username_unique"
	emailUnique    = "users_email_unique"
)

// Create implements [identity.Store].
func (u *Users) Create(ctx context.Context, user identity.User, stalePending time.Time, notice *mail.Envelope) error {
	row := withKeys(user)
	row.UpdatedAt = at(later(user.CreatedAt, user.UpdatedAt))
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		if err := tx.removeStale(ctx, stalePending, row.UsernameKey); err != nil {
			return err
		}
		if err := tx.checkFree(ctx, identity.ErrUsernameTaken, usernameTaken, row.UsernameKey); err != nil {
			return err
		}
		taken := emailTaken
		if user.Status == identity.StatusPending {
			taken = emailConfirmed
		}
		if err := tx.checkFree(ctx, identity.ErrEmailTaken, taken, identity.FoldEmail(user.Email), user.ID); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, insertUser, row); err != nil {
			return err
		}
		if err := tx.setRoles(ctx, user.ID, session.Roles(user.Roles)); err != nil {
			return err
		}
		if err := tx.record(ctx, event{At: row.CreatedAt, Type: eventUserRegistered, UserID: user.ID, Actor: issuer.ByUser, After: user.Roles}); err != nil {
			return err
		}
		if notice == nil {
			return nil
		}
		return tx.enqueue(ctx, *notice, user.CreatedAt)
	})
	// Another replica may have used the same username or address after the check above.
	if constraint, ok := u.db.dialect.unique(err); ok {
		switch constraint {
		case usernameUnique:
			return identity.ErrUsernameTaken
		case emailUnique:
			return identity.ErrEmailTaken
		}
	}
	return u.wrap("create user "+user.ID, err)
}

// removeStale deletes a user with this username who registered before the given time without confirming
// the address.
func (t *tx) removeStale(ctx context.Context, before time.Time, usernameKey string) error {
	var ids []string
	if err := t.list(ctx, &ids, lockStale, string(identity.StatusPending), at(before), usernameKey); err != nil {
		return err
	}
	return t.removePending(ctx, ids)
}

// removePending deletes users who have not confirmed their address, with their mailed tokens and
// failed logins. They have no sessions, because they cannot sign in. The users must be locked.
func (t *tx) removePending(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	for _, from := range []string{
		`DELETE FROM mail_tokens WHERE user_id IN (?)`,
		`DELETE FROM login_attempts WHERE user_id IN (?)`,
		`DELETE FROM user_roles WHERE user_id IN (?)`,
		`DELETE FROM users WHERE id IN (?)`,
	} {
		text, args, err := sqlx.In(from, ids)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, newStatement(text), args...); err != nil {
			return err
		}
	}
	return nil
}

// ForgetPending implements [identity.Store].
func (u *Users) ForgetPending(ctx context.Context, before time.Time, limit int) (int, error) {
	var ids []string
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		ids = nil
		if err := tx.list(ctx, &ids, lockOldestPending, at(before), max(limit, 0)); err != nil {
			return err
		}
		return tx.removePending(ctx, ids)
	})
	return len(ids), u.wrap("forget lapsed registrations", err)
}

// checkFree counts rows with the statement count. It returns the error taken if there is any row.
func (t *tx) checkFree(ctx context.Context, taken error, count *statement, args ...any) error {
	var n int
	if err := t.get(ctx, &n, nil, count, args...); err != nil {
		return err
	}
	if n > 0 {
		return taken
	}
	return nil
}

// Update implements [identity.Store].
func (u *Users) Update(ctx context.Context, id string, p identity.Profile, now time.Time) (identity.User, error) {
	var user identity.User
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) (err error) {
		// Read the user while it is locked, because updateUser also writes the unchanged fields.
		if _, user, err = tx.lockAndRead(ctx, id, identity.ErrNotFound); err != nil {
			return err
		}
		user = withProfile(user, p)
		user.UpdatedAt = micros(now)
		newEmail := p.Email != nil && *p.Email != user.Email // another spelling may be the address of another person
		switch {
		case newEmail:
			if err := tx.checkFree(ctx, identity.ErrEmailTaken, emailConfirmed, identity.FoldEmail(*p.Email), id); err != nil {
				return err
			}
			user.PendingEmail, user.PendingEmailAt = *p.Email, micros(now)
		case p.Email != nil:
			user.PendingEmail, user.PendingEmailAt = "", time.Time{}
		}
		if _, err := tx.exec(ctx, updateUser, withKeys(user)); err != nil {
			return err
		}
		if _, ok := audit.Of(ctx); ok { // users need no record of a change of their own names
			if err := tx.record(ctx, event{At: at(now), Type: eventProfileChanged, UserID: id, Detail: p.String()}); err != nil {
				return err
			}
		}
		if !newEmail {
			return nil
		}
		if err := tx.record(ctx, event{At: at(now), Type: eventEmailRequested, UserID: id, Actor: issuer.ByUser}); err != nil {
			return err
		}
		if err := tx.enqueue(ctx, mail.Envelope{Kind: mail.KindConfirmEmail, UserID: id, To: user.PendingEmail}, now); err != nil {
			return err
		}
		if user.EmailVerifiedAt.IsZero() {
			return nil
		}
		return tx.enqueue(ctx, mail.Envelope{Kind: mail.KindEmailChange, UserID: id, To: user.Email}, now)
	})
	return user, u.wrap("update user "+id, err)
}

// Delete implements [identity.Store].
func (u *Users) Delete(ctx context.Context, id string, now time.Time, notice mail.Envelope) (int64, error) {
	var revocation int64
	err := u.db.inLongTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockUser(ctx, forUpdate, id, identity.ErrNotFound)
		if err != nil {
			return err
		}
		revoked, err := tx.revokeAll(ctx, user, "", issuer.Ending{At: now, Reason: issuer.ReasonAccountDeleted, By: actor(ctx)})
		if err != nil {
			return err
		}
		revocation = revoked.ID
		// A thief may have changed the address before deleting the account.
		var earlier []string
		if err := tx.list(ctx, &earlier, undoEmails, id, at(now), notice.To); err != nil {
			return err
		}
		for _, address := range earlier {
			if err := tx.notify(ctx, mail.Envelope{Kind: notice.Kind, UserID: id, To: address}, now); err != nil {
				return err
			}
		}
		for _, forget := range []*statement{forgetMailTokens, forgetUndosOf, forgetRoles} {
			if _, err := tx.exec(ctx, forget, id); err != nil {
				return err
			}
		}
		if err := tx.eraseClients(ctx, id); err != nil {
			return err
		}
		erased := userRow{User: identity.User{ID: id, Status: identity.StatusDeleted}, UpdatedAt: at(now)}
		if _, err := tx.exec(ctx, eraseUser, erased); err != nil {
			return err
		}
		if err := tx.record(ctx, event{At: at(now), Type: eventUserDeleted, UserID: id, Actor: issuer.ByUser}); err != nil {
			return err
		}
		return tx.notify(ctx, notice, now)
	})
	return revocation, u.wrap("delete user "+id, err)
}
