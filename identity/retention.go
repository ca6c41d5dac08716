package identity

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sessiond/sessiond/identity/mail"
)

const (
	attemptRetention  = 90 * 24 * time.Hour // how long a failed login is kept for the user to see
	retentionInterval = time.Hour
	retentionBatch    = 1000 // rows per delete statement; with more rows, each statement would lock them for longer
)

// Retention removes failed logins after 90 days, because people who guess passwords cause many of them,
// even for unknown usernames. It also removes users who did not confirm the email address before the link
// in the mail expired, and the earlier addresses of users whose change of email can no longer be undone.
// Several replicas may run Retention at the same time.
type Retention struct {
	Store Store
	// Now is the clock that all replicas share.
	Now func() time.Time
	Log *slog.Logger
}

// Run calls [Retention.Remove] now and every hour until ctx ends.
func (r *Retention) Run(ctx context.Context) {
	ticker := time.NewTicker(retentionInterval)
	defer ticker.Stop()
	for {
		if err := r.Remove(ctx); err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "old logins and registrations were not removed; trying again in an hour", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Remove removes old failed logins, and users who did not confirm the email address in time.
func (r *Retention) Remove(ctx context.Context) error {
	// The link is mailed at most MaxAge after the registration, and then works for confirmTTL.
	pendingRetention := mail.MaxAge(mail.KindConfirmEmail) + confirmTTL
	return errors.Join(
		inBatches(ctx, r.Now().Add(-attemptRetention), r.Store.ForgetAttempts),
		inBatches(ctx, r.Now().Add(-pendingRetention), r.Store.ForgetPending),
		inBatches(ctx, r.Now().Add(-mail.MaxAge(mail.KindEmailChange)), r.Store.ForgetUndos),
		inBatches(ctx, r.Now().Add(-confirmTTL), r.Store.ForgetPendingEmails))
}

func inBatches(ctx context.Context, before time.Time, forget func(context.Context, time.Time, int) (int, error)) error {
	for {
		n, err := forget(ctx, before, retentionBatch)
		if err != nil || n < retentionBatch {
			return err
		}
	}
}
