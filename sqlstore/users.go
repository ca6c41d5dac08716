package sqlstore

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
)

// Users is where users live.
type Users struct{ db *DB }

var (
	_ identity.Store = (*Users)(nil)
	_ mail.Outbox    = (*Users)(nil)
)

func (u *Users) wrap(operation string, err error) error {
	return wrap(operation, identity.ErrUnavailable, err)
}

const userColumns = `id, username, email, first_name, last_name, password_hash, password_version, status,
	email_verified_at, created_at, updated_at`

type userRow struct {
	ID              string          `db:"id"`
	Username        string          `db:"username"`
	Email           string          `db:"email"`
	FirstName       string          `db:"first_name"`
	LastName        string          `db:"last_name"`
	PasswordHash    string          `db:"password_hash"`
	PasswordVersion int64           `db:"password_version"`
	Status          identity.Status `db:"status"`
	EmailVerifiedAt stamp           `db:"email_verified_at"`
	CreatedAt       stamp           `db:"created_at"`
	UpdatedAt       stamp           `db:"updated_at"`
}

func (r *userRow) user() identity.User {
	return identity.User{
		ID:              r.ID,
		Username:        r.Username,
		Email:           r.Email,
		FirstName:       r.FirstName,
		LastName:        r.LastName,
		PasswordHash:    r.PasswordHash,
		PasswordVersion: r.PasswordVersion,
		Status:          r.Status,
		EmailVerifiedAt: r.EmailVerifiedAt.Time,
		CreatedAt:       r.CreatedAt.Time,
		UpdatedAt:       r.UpdatedAt.Time,
	}
}

var (
	userByID = newStatement(`
		SELECT ` + userColumns + ` FROM users WHERE id = ? AND deleted_at IS NULL`)
	userByUsername = newStatement(`
		SELECT ` + userColumns + ` FROM users WHERE username_key = ?`)
	userByEmail = newStatement(`
		SELECT ` + userColumns + ` FROM users WHERE email_key = ?`)
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
	return u.read(ctx, "by email", userByEmail, identity.Fold(email))
}

func (u *Users) read(ctx context.Context, by string, s *statement, key string) (identity.User, error) {
	var row userRow
	if err := u.db.get(ctx, &row, identity.ErrNotFound, s, key); err != nil {
		return identity.User{}, u.wrap("read a user "+by, err)
	}
	return row.user(), nil
}

var (
	lockStale = newStatement(`
		SELECT id FROM users
		WHERE status = ? AND created_at < ? AND (username_key = ? OR email_key = ?) ORDER BY id FOR UPDATE`)
	lockStaleEmail = newStatement(`
		SELECT id FROM users WHERE status = ? AND created_at < ? AND email_key = ? FOR UPDATE`)
	// The status is written out, or SQLite would not use the index of pending users.
	lockOldestPending = newStatement(`
		SELECT id FROM users
		WHERE status = 'pending' AND created_at < ? ORDER BY created_at LIMIT ? FOR UPDATE SKIP LOCKED`)
	usernameTaken = newStatement(`SELECT count(*) FROM users WHERE username_key = ?`)
	emailTaken    = newStatement(`SELECT count(*) FROM users WHERE email_key = ? AND id <> ?`)
	insertUser    = newStatement(`
		INSERT INTO users (id, username, username_key, email, email_key, first_name, last_name, password_hash,
			password_version, status, email_verified_at, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
)

// Names of the constraints in the migrations.
const (
	usernameUnique = "users_username_unique"
	emailUnique    = "users_email_unique"
)

// Create implements [identity.Store].
func (u *Users) Create(ctx context.Context, user identity.User, stalePending time.Time, mail *mail.Envelope) error {
	usernameKey, emailKey := identity.Fold(user.Username), identity.Fold(user.Email)
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		if err := tx.removeStale(ctx, stalePending, lockStale, usernameKey, emailKey); err != nil {
			return err
		}
		if err := tx.free(ctx, identity.ErrUsernameTaken, usernameTaken, usernameKey); err != nil {
			return err
		}
		if err := tx.free(ctx, identity.ErrEmailTaken, emailTaken, emailKey, user.ID); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, insertUser, user.ID, user.Username, usernameKey, user.Email, emailKey, user.FirstName, user.LastName,
			user.PasswordHash, user.PasswordVersion, string(user.Status), at(user.EmailVerifiedAt), at(user.CreatedAt), at(later(user.CreatedAt, user.UpdatedAt))); err != nil {
			return err
		}
		if err := tx.record(ctx, event{at: user.CreatedAt, kind: eventUserRegistered, user: user.ID, actor: issuer.ByUser}); err != nil {
			return err
		}
		if mail == nil {
			return nil
		}
		return tx.enqueue(ctx, *mail, user.CreatedAt)
	})
	// Another replica was faster since the names were looked at.
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

// removeStale removes users that never confirmed their address and stand in the
// way of a name.
func (t *tx) removeStale(ctx context.Context, before time.Time, lock *statement, keys ...any) error {
	var ids []string
	if err := t.list(ctx, &ids, lock, append([]any{string(identity.StatusPending), at(before)}, keys...)...); err != nil {
		return err
	}
	return t.removePending(ctx, ids)
}

// removePending removes pending users who are locked, and all that refers to them:
// sessions do not, since none of them ever signed in.
func (t *tx) removePending(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	for _, from := range []string{
		`DELETE FROM mail_tokens WHERE user_id IN (?)`,
		`DELETE FROM login_attempts WHERE user_id IN (?)`,
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
	if err != nil {
		return 0, u.wrap("forget lapsed registrations", err)
	}
	return len(ids), nil
}

// free returns taken when a statement counts any row.
func (t *tx) free(ctx context.Context, taken error, count *statement, args ...any) error {
	var n int
	if err := t.get(ctx, &n, nil, count, args...); err != nil {
		return err
	}
	if n > 0 {
		return taken
	}
	return nil
}

var updateUser = newStatement(`
	UPDATE users SET first_name = ?, last_name = ?, email = ?, email_key = ?, email_verified_at = ?, updated_at = ?
	WHERE id = ?`)

// Update implements [identity.Store]. Mailed tokens are forgotten because they prove
// that somebody reads the old address.
func (u *Users) Update(ctx context.Context, id string, p identity.Profile, stalePending, now time.Time) (identity.User, error) {
	var user identity.User
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		if _, err := tx.lockLiving(ctx, forUpdate, id, identity.ErrNotFound); err != nil {
			return err
		}
		// Read under the lock: all columns are written, also those that do not change.
		var row userRow
		if err := tx.get(ctx, &row, identity.ErrNotFound, userByID, id); err != nil {
			return err
		}
		old := row.user()
		user = changed(old, p)
		user.UpdatedAt = micros(now)
		emailKey := identity.Fold(user.Email)
		moved := emailKey != identity.Fold(old.Email)
		if moved {
			user.EmailVerifiedAt = time.Time{}
			if err := tx.removeStale(ctx, stalePending, lockStaleEmail, emailKey); err != nil {
				return err
			}
			if err := tx.free(ctx, identity.ErrEmailTaken, emailTaken, emailKey, id); err != nil {
				return err
			}
		}
		if _, err := tx.exec(ctx, updateUser, user.FirstName, user.LastName, user.Email, emailKey,
			at(user.EmailVerifiedAt), at(user.UpdatedAt), id); err != nil {
			return err
		}
		if !moved {
			return nil
		}
		if _, err := tx.exec(ctx, forgetMailTokens, id); err != nil {
			return err
		}
		if err := tx.record(ctx, event{at: now, kind: eventEmailChanged, user: id, actor: issuer.ByUser}); err != nil {
			return err
		}
		return tx.enqueue(ctx, mail.Envelope{Kind: mail.KindEmailChanged, UserID: id, To: old.Email, Name: old.Username}, now)
	})
	if u.db.violates(err, emailUnique) {
		return identity.User{}, identity.ErrEmailTaken
	}
	if err != nil {
		return identity.User{}, u.wrap("update user "+id, err)
	}
	return user, nil
}

// changed is a user with what a profile gives.
func changed(u identity.User, p identity.Profile) identity.User {
	if p.FirstName != nil {
		u.FirstName = *p.FirstName
	}
	if p.LastName != nil {
		u.LastName = *p.LastName
	}
	if p.Email != nil {
		u.Email = *p.Email
	}
	return u
}
