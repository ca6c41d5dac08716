package identity

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sessiond/sessiond/identity/mail"
)

const (
	retentionInterval = time.Hour
	retentionBatch    = 500 // rows per transaction, which keeps them locked for some 20 ms
	// retentionRest is how long to rest after a batch, as a multiple of the time that the batch took. A
	// busy database is then pruned more slowly.
	retentionRest = 4
)

// Retention removes data when it gets too old: the login history, the addresses in it, users who did not
// confirm the email address before the link in the mail expired, and the earlier addresses of users whose
// change of email can no longer be undone. Several replicas may run Retention at the same time.
type Retention struct {
	Store Store
	// History is how long sessions (since the login), failed logins and audit events are kept. Sessions
	// that are not over stay. 0 means for ever.
	History time.Duration
	// Addresses is how long a login keeps its full address and user agent. 0 means for ever.
	Addresses time.Duration
	// Now is the clock that all replicas share.
	Now func() time.Time
	Log *slog.Logger
}

// interval returns the time between two calls of Remove. It is at most half of each time for which data
// is kept.
func (r *Retention) interval() time.Duration {
	interval := retentionInterval
	for _, kept := range []time.Duration{r.History, r.Addresses} {
		if kept > 0 {
			interval = min(interval, kept/2)
		}
	}
	return interval
}

// Run calls [Retention.Remove] again and again until ctx ends.
func (r *Retention) Run(ctx context.Context) {
	ticker := time.NewTicker(r.interval())
	defer ticker.Stop()
	for {
		if err := r.Remove(ctx); err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "old data was not removed; trying again later", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Remove removes everything that would get too old before the next call.
func (r *Retention) Remove(ctx context.Context) error {
	now := r.Now()
	// The link is mailed at most MaxAge after the registration, and then works for confirmTTL.
	pending := now.Add(-mail.MaxAge(mail.KindConfirmEmail) - confirmTTL)
	var problems []error
	forget := func(before time.Time, forget func(context.Context, time.Time, int) (int, error)) {
		problems = append(problems, inBatches(ctx, func() (bool, error) {
			n, err := forget(ctx, before, retentionBatch)
			return n == retentionBatch, err
		}))
	}
	forget(pending, r.Store.ForgetPending)
	forget(now.Add(-mail.MaxAge(mail.KindEmailChange)), r.Store.ForgetUndos)
	forget(now.Add(-confirmTTL), r.Store.ForgetPendingEmails)
	for _, chore := range []struct {
		name Chore
		kept time.Duration
	}{
		{CutSessions, r.Addresses},
		{CutAttempts, r.Addresses},
		{ForgetSessions, r.History},
		{ForgetAttempts, r.History},
		{ForgetEvents, r.History},
	} {
		if chore.kept > 0 {
			before := now.Add(r.interval() - chore.kept)
			problems = append(problems, inBatches(ctx, func() (bool, error) {
				return r.Store.Prune(ctx, chore.name, before, now, retentionBatch)
			}))
		}
	}
	return errors.Join(problems...)
}

// inBatches calls batch until there is no more to do, and rests after each call.
func inBatches(ctx context.Context, batch func() (more bool, err error)) error {
	for {
		start := time.Now()
		if more, err := batch(); err != nil || !more {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retentionRest * time.Since(start)):
		}
	}
}
