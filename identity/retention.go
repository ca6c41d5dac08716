package identity

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sessiond/sessiond/identity/mail"
)

const (
	attemptRetention  = 90 * 24 * time.Hour // how long a user can see a failed login
	retentionInterval = time.Hour
	retentionBatch    = 1000 // rows per delete statement; more rows would be locked for longer
)

// Retention removes failed logins after 90 days, because people who guess passwords cause many of them,
// even for unknown usernames. It also removes pending users after the links in their mails have expired.
// Several replicas may run Retention at the same time.
type Retention struct {
	Store Store
	// Now is the clock that all replicas share.
	Now func() time.Time
	Log *slog.Logger
}

// Run removes old failed logins and pending users now and every hour until ctx ends.
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

// Remove removes all failed logins and pending users that are too old now.
func (r *Retention) Remove(ctx context.Context) error {
	// A link works for registrationTTL after its mail was sent, at most MaxAge after the registration.
	pendingRetention := mail.MaxAge(mail.KindVerifyEmail) + registrationTTL
	return errors.Join(
		inBatches(ctx, r.Now().Add(-attemptRetention), r.Store.ForgetAttempts),
		inBatches(ctx, r.Now().Add(-pendingRetention), r.Store.ForgetPending))
}

func inBatches(ctx context.Context, before time.Time, forget func(context.Context, time.Time, int) (int, error)) error {
	for {
		n, err := forget(ctx, before, retentionBatch)
		if err != nil || n < retentionBatch {
			return err
		}
	}
}
