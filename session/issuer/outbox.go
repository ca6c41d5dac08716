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
	// outboxParallel lets a batch finish within its lease, even if each revocation has to wait for
	// a server that is away.
	outboxParallel = 16
)

// Run enforces, until ctx ends, the revocations that any replica has recorded and could not
// enforce.
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
			m.Log.WarnContext(ctx, "recorded revocations wait, because the store or the ledger is away", "error", err)
		}
	}
}

// EnforceDue enforces the recorded revocations that are due, once. A failure does not hold up the
// others, because on a Cluster one server may be away while the others answer.
func (m *Manager) EnforceDue(ctx context.Context) error {
	// Claim nothing while this replica cannot reach the store. Another replica may reach it.
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
