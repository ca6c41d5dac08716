package sqlstore

import (
	"context"

	"github.com/sessiond/sessiond/identity"
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
