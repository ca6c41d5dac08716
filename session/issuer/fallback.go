package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Finder reads a session from the durable truth. [Ledger] is one.
type Finder interface {
	Find(ctx context.Context, subject, id string, now time.Time) (Record, error)
}

// LedgerFallback is the [session.Fallback] of who can reach the ledger. When the store
// is there to take it, it puts back what the ledger says, so that the next check
// need not ask.
type LedgerFallback struct {
	Store  Store
	Finder Finder
	// Limit bounds how many reads of the ledger run at once, so that a wiped
	// store does not become a flood of SQL. A check that gets no turn within
	// Timeout is [session.ErrUnavailable]. Nil: unbounded.
	Limit session.Limit
	// Timeout bounds waiting for a turn and reading together. Zero: 1 s.
	Timeout time.Duration
}

var _ session.Fallback = (*LedgerFallback)(nil)

// Check implements [session.Fallback]. Every caller makes a reading of its own: joining
// one that began before a revocation would bring the revoked session back.
func (f *LedgerFallback) Check(ctx context.Context, q session.Question) error {
	timeout := f.Timeout
	if timeout == 0 {
		timeout = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	leave, ok := f.Limit.Enter(ctx)
	if !ok {
		return fmt.Errorf("%w: too many checks wait for the ledger", session.ErrUnavailable)
	}
	defer leave()

	var lease string
	var leased bool
	if q.StoreUp {
		// An error here only means that nothing is put back.
		lease, leased, _ = f.Store.Lease(ctx, q.Ref.Subject)
	}
	record, err := f.Finder.Find(ctx, q.Ref.Subject, q.Ref.SessionID, q.Now)
	switch {
	case errors.Is(err, ErrNotFound):
		return session.ErrRevoked
	case err != nil:
		return fmt.Errorf("session: check of session %s: %w", q.Ref.SessionID, err)
	}
	if leased {
		if snapshot, ok := record.snapshot(q.Now); ok {
			// What could not be put back is read again by the next check.
			_, _ = f.Store.Backfill(ctx, lease, q.Ref, snapshot)
		}
	}
	return record.verdict(q.Ref.TokenID, q.Now)
}

// verdict is the rule of a check on the durable truth.
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

// snapshot is what the store may keep of a record. A session that has expired is
// not kept: a refresh that is being committed just now may prolong it, and an
// entry that says ended is for ever.
func (r *Record) snapshot(now time.Time) (Snapshot, bool) {
	f := Snapshot{Until: r.AccessExpiresAt, SubjectGeneration: r.SubjectGeneration, SubjectUntil: r.SubjectUntil}
	switch r.StatusAt(now) {
	case StatusActive:
		f.Entry = session.Entry{Generation: r.Generation, ExpiresAt: r.ExpiresAt, RevokedTokens: r.RevokedTokens}
		return f, true
	case StatusExpired:
		return Snapshot{}, false
	default:
		f.Entry = session.Entry{Ended: true, Generation: r.Generation, ExpiresAt: r.ExpiresAt}
		return f, true
	}
}
