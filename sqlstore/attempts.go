package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// attemptRow is a row of the table login_attempts: one failed login.
type attemptRow struct {
	ID                    string
	UserID                *string // nil if no account has the name that the client sent
	IP, UserAgent, Device string
	Reason                string
	CreatedAt             timestamp
}

var insertAttempt = newStatement(`
	INSERT INTO login_attempts (id, user_id, ip, user_agent, device, reason, created_at)
	VALUES (:id, :user_id, :ip, :user_agent, :device, :reason, :created_at)`)

// RecordAttempt implements [identity.Store]. It runs the same statements for an unknown user as for
// a known one. Otherwise the duration of a failed login would show whether the account exists.
func (u *Users) RecordAttempt(ctx context.Context, a identity.Attempt) error {
	return u.wrap("record a failed login of "+a.UserID, u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, notFound := &a.UserID, identity.ErrNotFound
		if a.UserID == "" {
			user, notFound = nil, nil
		}
		if _, err := tx.lockUser(ctx, forShare, a.UserID, notFound); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, insertAttempt, attemptRow{
			ID: a.ID, UserID: user, IP: clean(a.IP), UserAgent: clean(a.UserAgent), Device: clean(a.Device),
			Reason: a.Reason, CreatedAt: at(a.At),
		}); err != nil {
			return err
		}
		return tx.record(ctx, event{At: at(a.At), Type: eventLoginFailed, UserID: a.UserID, Detail: a.Reason})
	}))
}

var (
	// forgetOldAttempts compares ids, because the id of a failed login begins with its time.
	forgetOldAttempts = newStatement(`
		WITH oldest AS MATERIALIZED (
			SELECT id FROM login_attempts WHERE id < ? ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED
		)
		DELETE FROM login_attempts WHERE id IN (SELECT id FROM oldest)`)
	// forgetOldGuesses deletes failed logins without an account from the audit trail, because an
	// attacker can add any number of them. The inner query has no condition on the time. Otherwise
	// it would also read all younger events, to look for more old ones.
	forgetOldGuesses = newStatement(`
		WITH oldest AS MATERIALIZED (
			SELECT seq, at FROM events WHERE user_id = '' ORDER BY seq LIMIT ? FOR UPDATE SKIP LOCKED
		)
		DELETE FROM events WHERE seq IN (SELECT seq FROM oldest WHERE at < ?)`)
)

// ForgetAttempts implements [identity.Store]. It also deletes audit events without an account.
func (u *Users) ForgetAttempts(ctx context.Context, before time.Time, limit int) (int, error) {
	var attempts, guesses int64
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) (err error) {
		if attempts, err = tx.exec(ctx, forgetOldAttempts, issuer.NewTimedID(before), max(limit, 0)); err != nil {
			return err
		}
		guesses, err = tx.exec(ctx, forgetOldGuesses, max(limit, 0), at(before))
		return err
	})
	return int(max(attempts, guesses)), u.wrap("forget old failed logins", err)
}
