package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/session"
)

// Bulk is a revocation of all sessions that a filter selects. The ledger records how far it has come. If the
// replica that does it ends, another one goes on.
type Bulk struct {
	ID         string
	Filter     Filter // CreatedBefore is not later than StartedAt, so that later logins stay
	Reason     Reason // of the sessions that end
	State      BulkState
	Matched    int64 // the sessions that the filter selects; grows while the state is BulkCounting
	Revoked    int64 // the sessions that ended so far
	StartedAt  time.Time
	FinishedAt time.Time // zero until the state is BulkDone
	// Waits says that all sessions have ended, and that a revocation is not enforced yet, maybe another one.
	Waits bool
}

// BulkState says what is being done.
type BulkState string

// These are the states of a Bulk, in their order.
const (
	BulkCounting BulkState = "counting"
	BulkRevoking BulkState = "revoking"
	BulkDone     BulkState = "done" // every replica refuses the sessions
)

const (
	// bulkBatch is the number of sessions that one transaction ends. It keeps their users locked for some
	// 20 ms.
	bulkBatch = 200
	// bulkParallel is how many revocations are applied to the store at once. More would delay checks.
	bulkParallel = 4
	// bulkLease is how long after its last batch a replica is taken for gone. It is longer than a batch takes.
	bulkLease = 15 * time.Second
	// bulkRest is how long to rest after a batch, as a multiple of the time that the batch took. Checks and
	// logins need the rest of the time.
	bulkRest     = 3
	bulkInterval = time.Second
)

// StartBulk records a revocation of all active sessions that a filter selects. A background task of some
// replica does it.
func (m *Manager) StartBulk(ctx context.Context, f Filter, reason Reason) (Bulk, error) {
	return m.startBulk(ctx, f, reason, "")
}

// startBulk also leases the revocation, unless the owner is empty.
func (m *Manager) startBulk(ctx context.Context, f Filter, reason Reason, owner string) (Bulk, error) {
	now := m.Now()
	if f.CreatedBefore.IsZero() || f.CreatedBefore.After(now) {
		f.CreatedBefore = now
	}
	b := Bulk{ID: NewTimedID(now), Filter: f, Reason: reason, State: BulkCounting, StartedAt: now}
	if err := m.Ledger.StartBulk(ctx, b, owner, bulkLease); err != nil {
		return Bulk{}, fmt.Errorf("issuer.StartBulk: %w", err)
	}
	return b, nil
}

// Bulk returns a revocation of StartBulk, or ErrNotFound.
func (m *Manager) Bulk(ctx context.Context, id string) (Bulk, error) {
	b, err := m.Ledger.Bulk(ctx, id)
	if err != nil {
		return Bulk{}, fmt.Errorf("issuer.Bulk: %w", err)
	}
	return b, nil
}

// RunBulk does recorded revocations until ctx ends.
func (m *Manager) RunBulk(ctx context.Context) {
	owner := NewID()
	every(ctx, bulkInterval, func() {
		id, err := m.Ledger.ClaimBulk(ctx, "", owner, m.Now(), bulkLease)
		for b := (Bulk{}); err == nil && b.State != BulkDone && !b.Waits; {
			b, err = m.stepBulk(ctx, id, owner)
		}
		if err == nil { // if it waits, others can be done in the meantime
			_, err = m.Ledger.ClaimBulk(ctx, id, owner, m.Now(), bulkInterval)
		}
		if err != nil && !errors.Is(err, ErrNotFound) && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "a revocation of many sessions waits, because the store or the ledger is away", "error", err)
		}
	})
}

// RevokeBulk revokes all active sessions that a filter selects, and returns once every replica refuses them. It
// calls progress after each batch. If it returns an error, the background task of some replica goes on, unless
// the ID of the Bulk is empty.
func (m *Manager) RevokeBulk(ctx context.Context, f Filter, reason Reason, progress func(Bulk)) (Bulk, error) {
	owner := NewID()
	b, err := m.startBulk(ctx, f, reason, owner)
	if err != nil {
		return Bulk{}, err
	}
	for b.State != BulkDone {
		now, err := m.stepBulk(ctx, b.ID, owner)
		if err != nil {
			return b, err
		}
		b = now
		progress(b)
		if b.Waits {
			rest(ctx, bulkInterval)
		}
	}
	return b, nil
}

// stepBulk does one batch of a revocation, and rests. It returns ErrNotFound if the revocation is done, or if
// another replica has claimed it.
func (m *Manager) stepBulk(ctx context.Context, id, owner string) (Bulk, error) {
	start := time.Now()
	if _, err := m.Ledger.ClaimBulk(ctx, id, owner, m.Now(), bulkLease); err != nil {
		return Bulk{}, fmt.Errorf("issuer: claim a revocation of many sessions: %w", err)
	}
	b, ended, err := m.Ledger.StepBulk(ctx, id, m.Now(), bulkBatch)
	if err != nil {
		return Bulk{}, fmt.Errorf("issuer: revoke many sessions: %w", err)
	}
	if err := m.enforceAll(ctx, ended); err != nil {
		return Bulk{}, err
	}
	if b.State != BulkDone {
		rest(ctx, min(bulkRest*time.Since(start), bulkInterval))
	}
	return b, ctx.Err()
}

// rest waits for a time, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// enforceAll applies committed revocations to the store. What it cannot enforce, the outbox enforces later.
func (m *Manager) enforceAll(ctx context.Context, all []Revocation) error {
	if len(all) == 0 {
		return nil
	}
	m.recorded(all...)
	committed := time.Now()
	taken := make([][]string, len(all))
	var group errgroup.Group
	group.SetLimit(bulkParallel)
	for i := range all {
		group.Go(func() (err error) {
			taken[i], err = m.Store.Apply(ctx, all[i])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("issuer: revocations are recorded but not enforced yet: %w", err)
	}
	// One reading of the epochs is enough, because it comes after all were applied; see tryEnforce.
	table, err := m.Ledger.Epochs(ctx)
	if err != nil {
		return fmt.Errorf("issuer: revocations are recorded but not enforced yet: %w", err)
	}
	var done []int64
	for i := range all {
		if table.settled(taken[i]...) {
			done = append(done, all[i].ID)
			observed(m.Observer).Enforced(enforcedAtOnce, time.Since(committed))
		}
	}
	if err := m.Ledger.RevocationDone(ctx, done...); err != nil {
		return fmt.Errorf("issuer: cannot mark enforced revocations as done: %w", err)
	}
	if len(done) < len(all) {
		return fmt.Errorf("issuer: %w: the Redis server that took revocations does not count, or not yet", session.ErrUnavailable)
	}
	return nil
}
