package identity

import (
	"context"
	"log/slog"
	"time"
)

const (
	// attemptsKept is how long a failed login can be read.
	attemptsKept    = 90 * 24 * time.Hour
	retentionPeriod = time.Hour
	// retentionBatch is removed at once: a larger one would hold its locks for longer.
	retentionBatch = 1000
)

// Retention removes failed logins after 90 days: whoever guesses adds some, also
// under names that nobody has. Any number of replicas may run one.
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
			r.Log.WarnContext(ctx, "old failed logins were not removed; trying again in an hour", slog.Any("error", err))
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
	for {
		n, err := r.Store.ForgetAttempts(ctx, r.Now().Add(-attemptsKept), retentionBatch)
		if err != nil || n < retentionBatch {
			return err
		}
	}
}
