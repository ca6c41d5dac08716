package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// Revoke ends one session of a subject. When it has returned without error no
// check accepts the session any more; ending one that has ended already
// succeeds. ErrNotFound when this subject has no such session. session.ErrUnavailable:
// either nothing was done, or it is recorded and comes into force as soon as
// the store is back.
func (m *Manager) Revoke(ctx context.Context, subject, id string, reason Reason) (Session, error) {
	s, revocation, err := m.Ledger.Revoke(ctx, subject, id, Ending{At: m.Now(), Reason: reason, By: ByUser})
	if err != nil {
		return Session{}, fmt.Errorf("issuer.Revoke: %w", err)
	}
	return s, m.enforce(ctx, revocation)
}

// RevokeAll ends all sessions of a subject but keep (empty: none is kept) and
// returns those it ended. Errors as of Revoke.
func (m *Manager) RevokeAll(ctx context.Context, subject, keep string, reason Reason) ([]Session, error) {
	ended, revocation, err := m.Ledger.RevokeAll(ctx, subject, keep, Ending{At: m.Now(), Reason: reason, By: ByUser})
	if err != nil {
		return nil, fmt.Errorf("issuer.RevokeAll: %w", err)
	}
	return ended, m.enforce(ctx, revocation)
}

// RevokeToken puts one access token on the blacklist; its session goes on (RFC
// 7009). A token that is not ours or no longer in date needs no revoking and is
// no error.
func (m *Manager) RevokeToken(ctx context.Context, token string) error {
	c, err := m.VerifyOffline(token)
	if err != nil {
		return nil //nolint:nilerr // RFC 7009 section 2.2: an invalid token is already of no use
	}
	revocation, err := m.Ledger.RevokeToken(ctx, c.Subject, c.SessionID, c.TokenID, c.ExpiresAt, m.Now())
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("issuer.RevokeToken: %w", err)
	}
	return m.enforce(ctx, revocation)
}

// Enforce puts a revocation in force that was recorded elsewhere, as by a change
// of password. Errors as of Revoke.
func (m *Manager) Enforce(ctx context.Context, id int64) error {
	revocation, err := m.Ledger.Revocation(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil // another replica has finished it
	}
	if err != nil {
		return fmt.Errorf("issuer.Enforce: revocation %d: %w", id, err)
	}
	return m.enforce(ctx, revocation)
}

// enforce tells the store of a committed revocation.
func (m *Manager) enforce(ctx context.Context, r Revocation) error {
	// The client's leaving must not leave the revocation to the outbox.
	ctx = context.WithoutCancel(ctx)
	if err := m.Store.Apply(ctx, r); err != nil {
		return fmt.Errorf("session: revocation %d is recorded and not yet in force: %w", r.ID, err)
	}
	if err := m.Ledger.RevocationDone(ctx, r.ID); err != nil {
		// It is in force; applying it once more later is harmless.
		m.Log.WarnContext(ctx, "revocation in force but not ticked off", "revocation", r.ID, "error", err)
	}
	return nil
}

const (
	revocationPoll  = time.Second
	revocationLease = 5 * time.Second
	revocationBatch = 100
	// revocationsAtOnce keeps a batch, each of which may wait for a server that is
	// away, within the lease.
	revocationsAtOnce = 16
)

// Run finishes, until ctx ends, the revocations that a replica recorded and
// could not put in force.
func (m *Manager) Run(ctx context.Context) {
	tick := time.NewTicker(revocationPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := m.EnforceDue(ctx); err != nil && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "the store or the ledger is away, and what was revoked meanwhile waits", "error", err)
		}
	}
}

// EnforceDue puts in force what is recorded and due, once. One that cannot
// be put in force holds up no other: on a Cluster its server may be the only one
// that is away.
func (m *Manager) EnforceDue(ctx context.Context) error {
	// A replica that the store is away from claims none, and so keeps none from
	// another that reaches it.
	limit, away := revocationBatch, m.Store.Ping(ctx)
	if away != nil {
		limit = 0
	}
	for {
		due, err := m.Ledger.DueRevocations(ctx, m.Now(), revocationLease, limit)
		m.outage.note(err, m.Now())
		if err = errors.Join(err, away); err != nil {
			return fmt.Errorf("issuer.EnforceDue: %w", err)
		}
		var group errgroup.Group
		group.SetLimit(revocationsAtOnce)
		for _, r := range due {
			group.Go(func() error { return m.enforce(ctx, r) })
		}
		if err := group.Wait(); err != nil || len(due) < limit {
			return err
		}
	}
}
