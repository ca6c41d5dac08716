package identity

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sessiond/sessiond/identity/mail"
)

const (
	// attemptRetention is how long the history shows a failed login.
	attemptRetention  = 90 * 24 * time.Hour
	retentionInterval = time.Hour
	// retentionBatch is how many rows are removed at once. A larger batch would hold its locks longer.
	retentionBatch = 1000
)

// Retention removes failed logins after 90 days, because guesses add many of them, even under names that
// nobody has. It also removes unconfirmed registrations once their links have expired. Any number of
// replicas may run one.
type Retention struct {
	Store Store
	// Now is the clock that all replicas share.
	Now func() time.Time
	Log *slog.Logger
}

// Run removes old rows now and every hour until ctx is done.
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

// Remove removes all rows that are old now.
func (r *Retention) Remove(ctx context.Context) error {
	// A link that was mailed late works longer than its registration holds the names.
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
