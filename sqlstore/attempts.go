package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

var (
	// Ids begin with their time.
	forgetOldAttempts = newStatement(`
		WITH oldest AS MATERIALIZED (
			SELECT id FROM login_attempts WHERE id < ? ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED
		)
		DELETE FROM login_attempts WHERE id IN (SELECT id FROM oldest)`)
	// The audit trail of an account stays; that of nobody grows with every guess.
	// The time is asked outside, or all that are younger would be read each time.
	forgetOldGuesses = newStatement(`
		WITH oldest AS MATERIALIZED (
			SELECT seq, at FROM events WHERE user_id = '' ORDER BY seq LIMIT ? FOR UPDATE SKIP LOCKED
		)
		DELETE FROM events WHERE seq IN (SELECT seq FROM oldest WHERE at < ?)`)
)

// ForgetAttempts implements [identity.Store]. The events of attempts that name no
// account go with them.
func (u *Users) ForgetAttempts(ctx context.Context, before time.Time, limit int) (int, error) {
	var attempts, guesses int64
	err := u.db.inTx(ctx, func(ctx context.Context, tx *tx) (err error) {
		if attempts, err = tx.exec(ctx, forgetOldAttempts, issuer.NewTimedID(before), max(limit, 0)); err != nil {
			return err
		}
		guesses, err = tx.exec(ctx, forgetOldGuesses, max(limit, 0), at(before))
		return err
	})
	if err != nil {
		return 0, u.wrap("forget old failed logins", err)
	}
	return int(max(attempts, guesses)), nil
}
