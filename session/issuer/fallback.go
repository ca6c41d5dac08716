package issuer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sessiond/sessiond/session"
)

// LedgerFallback is a [session.Fallback] that reads sessions from the ledger. If the store answers,
// the fallback also backfills it, so that the next check of the session does not need the ledger.
type LedgerFallback struct {
	Store  Store
	Finder Finder
	// Limit bounds how many reads run at once. Without a limit, the loss of the store's data would
	// cause a flood of SQL.
	Limit *session.Limit
	// Timeout bounds how long a check waits for its read. 0 means 1 second. The read itself goes on,
	// and the store gets its result: otherwise an overloaded ledger would only do work in vain.
	Timeout time.Duration
	// Observer receives what became of each backfill. It may be nil.
	Observer Observer
}

// Finder reads a session from the ledger. [Ledger] implements it.
type Finder interface {
	Find(ctx context.Context, subject, id string, now time.Time) (Record, error)
}

var _ session.Fallback = (*LedgerFallback)(nil)

// Check implements [session.Fallback]. Each call reads the ledger. If calls shared a read that
// began before a revocation, the later calls would accept the revoked session.
func (f *LedgerFallback) Check(ctx context.Context, q session.Question) (session.Attributes, error) {
	began := time.Now()
	if err := f.Limit.Enter(ctx); err != nil {
		observed(f.Observer).Backfilled(backfillUnread, time.Since(began), 0)
		return session.Attributes{}, fmt.Errorf("read the ledger: %w", err)
	}
	type result struct {
		attributes session.Attributes
		err        error
	}
	results := make(chan result, 1)
	entered := time.Now()
	go func() {
		defer f.Limit.Leave()
		attributes, backfill, err := f.read(context.WithoutCancel(ctx), q)
		observed(f.Observer).Backfilled(backfill, entered.Sub(began), time.Since(entered))
		results <- result{attributes, err}
	}()
	late := time.NewTimer(cmp.Or(f.Timeout, time.Second))
	defer late.Stop()
	select {
	case r := <-results:
		return r.attributes, r.err
	case <-late.C:
		return session.Attributes{}, fmt.Errorf("%w: the ledger takes too long", session.ErrUnavailable)
	case <-ctx.Done():
		return session.Attributes{}, fmt.Errorf("issuer: check given up: %w", ctx.Err())
	}
}

// read reads the ledger, backfills the store, and returns what the ledger says, and one of BackfillOutcomes.
func (f *LedgerFallback) read(ctx context.Context, q session.Question) (_ session.Attributes, backfill string, err error) {
	backfill = backfillNone
	lease, leased := "", false
	if q.StoreUp {
		// Without a lease there is no backfill, and the check goes on.
		lease, leased, _ = f.Store.Lease(ctx, q.Ref)
	}
	record, err := f.Finder.Find(ctx, q.Ref.Subject, q.Ref.SessionID, q.Now)
	switch {
	case errors.Is(err, ErrNotFound):
		return session.Attributes{}, backfill, session.ErrRevoked
	case err != nil:
		return session.Attributes{}, backfillUnread, fmt.Errorf("issuer: check of session %s: %w", q.Ref.SessionID, err)
	}
	if leased {
		if snapshot, ok := record.snapshot(q.Now); ok {
			// If the backfill fails, the next check reads the ledger again.
			switch stored, err := f.Store.Backfill(ctx, lease, q.Ref, snapshot); {
			case err != nil:
				backfill = backfillFailed
			case stored:
				backfill = backfillStored
			default:
				backfill = backfillRefused
			}
		}
	}
	return record.Attributes, backfill, record.verdict(q.Ref.TokenID, q.Now)
}

// verdict returns nil if the ledger says that the session is active and the token is not revoked.
func (r *Record) verdict(tokenID string, now time.Time) error {
	switch r.StatusAt(now) {
	case StatusActive:
		if slices.Contains(r.RevokedTokens, tokenID) || r.Generation < r.SubjectGeneration {
			return session.ErrRevoked
		}
		return nil
	case StatusExpired:
		return invalid("session expired")
	default:
		return session.ErrRevoked
	}
}

// snapshot returns the part of a record that the store may keep. It reports false for an expired
// session, because a concurrent refresh may prolong the session. A session that has ended in the
// store could not become active there again.
func (r *Record) snapshot(now time.Time) (s Snapshot, ok bool) {
	status := r.StatusAt(now)
	if status == StatusExpired {
		return Snapshot{}, false
	}
	return Snapshot{
		Entry: session.Entry{
			Ended: status != StatusActive || r.Generation < r.SubjectGeneration, Generation: r.Generation, ExpiresAt: r.ExpiresAt, RevokedTokens: r.RevokedTokens,
			Attributes: r.Attributes,
		},
		Until: r.AccessExpiresAt, SubjectGeneration: r.SubjectGeneration, SubjectUntil: r.SubjectUntil,
	}, true
}
