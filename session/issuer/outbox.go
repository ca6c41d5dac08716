package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	outboxInterval = time.Second
	outboxLease    = 5 * time.Second
	outboxBatch    = 100
	// outboxParallel is how many revocations of a batch are enforced at once. The batch must finish
	// within its lease even if each revocation waits for a server that is down.
	outboxParallel = 16
)

// Run enforces the revocations that a replica has recorded but could not enforce, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	tick := time.NewTicker(outboxInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := m.EnforceDue(ctx); err != nil && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "recorded revocations are not enforced yet, because the store or the ledger is down", "error", err)
		}
	}
}

// EnforceDue enforces the recorded revocations that are due. If one of them fails, the others are
// still enforced, because a Redis Cluster may have only one server that is down.
func (m *Manager) EnforceDue(ctx context.Context) error {
	// Claim no revocations if this replica cannot reach the store, because another replica may.
	limit, away := outboxBatch, m.Store.Ping(ctx)
	if away != nil {
		limit = 0
	}
	for {
		due, err := m.Ledger.DueRevocations(ctx, m.Now(), outboxLease, limit)
		m.outage.observe(err, m.Now())
		if err = errors.Join(err, away); err != nil {
			return fmt.Errorf("issuer.EnforceDue: %w", err)
		}
		var group errgroup.Group
		group.SetLimit(outboxParallel)
		for _, r := range due {
			group.Go(func() error { return m.enforce(ctx, r) })
		}
		if err := group.Wait(); err != nil || len(due) < limit {
			return err
		}
	}
}
