package identity

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sessiond/sessiond/identity/mail"
)

const (
	// attemptsKept is how long a failed login can be read.
	attemptsKept    = 90 * 24 * time.Hour
	retentionPeriod = time.Hour
	// retentionBatch is removed at once: a larger one would hold its locks for longer.
	retentionBatch = 1000
)

// Retention removes failed logins after 90 days: whoever guesses adds some, also
// under names that nobody has. And it removes registrations that nobody confirmed, once
// no link to do so works any more. Any number of replicas may run one.
type Retention struct {
	Store Store
	// Now is the clock that all replicas share.
	Now func() time.Time
	Log *slog.Logger
}

// Run removes what is old now and every hour until ctx is done.
func (r *Retention) Run(ctx context.Context) {
	ticker := time.NewTicker(retentionPeriod)
	defer ticker.Stop()
	for {
		if err := r.Remove(ctx); err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "what is old was not removed; trying again in an hour", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Remove makes one pass.
func (r *Retention) Remove(ctx context.Context) error {
	// A link that was mailed late works longer than the registration holds its names.
	pendingKept := mail.MaxAge(mail.KindVerifyEmail) + pendingTTL
	return errors.Join(
		inBatches(ctx, r.Now().Add(-attemptsKept), r.Store.ForgetAttempts),
		inBatches(ctx, r.Now().Add(-pendingKept), r.Store.ForgetPending))
}

func inBatches(ctx context.Context, before time.Time, forget func(context.Context, time.Time, int) (int, error)) error {
	for {
		n, err := forget(ctx, before, retentionBatch)
		if err != nil || n < retentionBatch {
			return err
		}
	}
}
