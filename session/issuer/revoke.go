package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Revoke ends one session of a subject. After Revoke has returned nil, no check accepts the session
// any more. Revoking an ended session succeeds. Revoke returns ErrNotFound if the subject has no
// such session. After [session.ErrUnavailable] either nothing has changed, or the revocation is
// recorded and will be enforced as soon as the store answers again.
func (m *Manager) Revoke(ctx context.Context, subject, id string, reason Reason) (Session, error) {
	s, revocation, err := m.Ledger.Revoke(ctx, subject, id, Ending{At: m.Now(), Reason: reason, By: reason.actor()})
	if err != nil {
		return Session{}, fmt.Errorf("issuer.Revoke: %w", err)
	}
	return s, m.enforce(ctx, revocation, enforceWait)
}

// RevokeAll ends all sessions of a subject, except the session with the id keep if keep is not empty. It
// returns the errors of Revoke.
func (m *Manager) RevokeAll(ctx context.Context, subject, keep string, reason Reason) (Ended, error) {
	ended, revocation, err := m.Ledger.RevokeAll(ctx, subject, keep, Ending{At: m.Now(), Reason: reason, By: reason.actor()})
	if err != nil {
		return Ended{}, fmt.Errorf("issuer.RevokeAll: %w", err)
	}
	return ended, m.enforce(ctx, revocation, enforceWait)
}

// RevokeToken revokes one access token (RFC 7009). The session of the token stays active. For an
// invalid token RevokeToken does nothing and returns nil.
func (m *Manager) RevokeToken(ctx context.Context, token string) error {
	c, err := m.VerifyOffline(token)
	if err != nil {
		return nil //nolint:nilerr // RFC 7009 section 2.2: an invalid token is not an error
	}
	revocation, err := m.Ledger.RevokeToken(ctx, c.Subject, c.SessionID, c.TokenID, c.ExpiresAt, m.Now())
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("issuer.RevokeToken: %w", err)
	}
	return m.enforce(ctx, revocation, enforceWait)
}

// Enforce enforces the recorded revocation with this id, for example the revocation by a password
// change. It returns the errors of Revoke.
func (m *Manager) Enforce(ctx context.Context, id int64) error {
	revocation, err := m.Ledger.Revocation(ctx, id)
	if errors.Is(err, ErrNotFound) { // another replica has enforced the revocation, and knows its reason
		observed(m.Observer).Revoked(otherReason)
		return nil
	}
	if err != nil {
		return fmt.Errorf("issuer.Enforce: revocation %d: %w", id, err)
	}
	return m.enforce(ctx, revocation, enforceWait)
}

const (
	// enforceWait is how long a client waits for its revocation while a new Redis server settles.
	enforceWait = 2 * time.Second
	enforceTick = 200 * time.Millisecond
)

// enforce enforces a revocation that this replica has just committed, and reports both.
func (m *Manager) enforce(ctx context.Context, r Revocation, wait time.Duration) error {
	m.recorded(r)
	committed := time.Now()
	err := m.keepEnforcing(ctx, r, wait)
	if err == nil {
		observed(m.Observer).Enforced(enforcedAtOnce, time.Since(committed))
	}
	return err
}

// keepEnforcing applies a committed revocation to the store. It returns nil once every replica refuses
// what was revoked. It tries again for the time wait if the server that took the revocation does not
// count yet, because a verifier may still trust another one.
func (m *Manager) keepEnforcing(ctx context.Context, r Revocation, wait time.Duration) error {
	// Go on if the client leaves. Otherwise the revocation would wait for the outbox.
	ctx = context.WithoutCancel(ctx)
	for end := time.Now().Add(wait); ; time.Sleep(enforceTick) {
		done, err := m.tryEnforce(ctx, r)
		if err == nil && !done && time.Now().After(end) {
			err = fmt.Errorf("%w: the Redis server that took it does not count, or not yet", session.ErrUnavailable)
		}
		if err != nil {
			return fmt.Errorf("issuer: revocation %d is recorded but not enforced yet: %w", r.ID, err)
		}
		if done {
			return nil
		}
	}
}

func (m *Manager) tryEnforce(ctx context.Context, r Revocation) (done bool, err error) {
	servers, err := m.Store.Apply(ctx, r)
	if err != nil {
		return false, err
	}
	// Read the epochs after the store was written. If the server counts now, a verifier that trusts a
	// later one reads the ledger after the revocation was committed.
	table, err := m.Ledger.Epochs(ctx)
	if err != nil {
		return false, err
	}
	if !table.settled(servers...) {
		_, err := m.Ledger.Revocation(ctx, r.ID)
		return errors.Is(err, ErrNotFound), nil // whether another replica has enforced it
	}
	if err := m.Ledger.RevocationDone(ctx, r.ID); err != nil {
		// The outbox will apply this revocation once more, which is harmless.
		m.Log.WarnContext(ctx, "cannot mark an enforced revocation as done", "revocation", r.ID, "error", err)
	}
	return true, nil
}
