package issuer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/session"
)

const (
	outboxInterval = time.Second
	outboxLease    = 3 * time.Second
	outboxBatch    = 64
	// outboxParallel is how many revocations of a batch are enforced at once. The batch must finish
	// within its lease even if each revocation waits for a server that is down.
	outboxParallel = 16
)

// Run works in the background until ctx ends: it polls the epochs, and enforces the revocations that
// any replica has recorded and could not enforce.
func (m *Manager) Run(ctx context.Context) {
	var polls sync.WaitGroup
	defer polls.Wait()
	polls.Go(func() { every(ctx, session.EpochInterval, func() { m.PollEpochs(ctx) }) })
	every(ctx, outboxInterval, func() {
		if err := m.EnforceDue(ctx); err != nil && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "recorded revocations wait, because the store or the ledger is away", "error", err)
		}
	})
}

// every calls f at each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// EnforceDue enforces the recorded revocations that are due. If one of them fails, the others are
// still enforced, because a Redis Cluster may have only one server that is down.
func (m *Manager) EnforceDue(ctx context.Context) error {
	// Claim nothing while this replica uses no server that counts. Another replica may.
	if !m.settled.Load() {
		return nil
	}
	for {
		due, err := m.Ledger.DueRevocations(ctx, m.Now(), outboxLease, outboxBatch)
		if err != nil {
			return fmt.Errorf("issuer.EnforceDue: %w", err)
		}
		var group errgroup.Group
		group.SetLimit(outboxParallel)
		for _, r := range due {
			group.Go(func() error {
				err := m.keepEnforcing(ctx, r, 0)
				if err == nil {
					observed(m.Observer).Enforced(enforcedLater, m.Now().Sub(r.RecordedAt))
				}
				return err
			})
		}
		if err := group.Wait(); err != nil || len(due) < outboxBatch {
			return err
		}
	}
}
