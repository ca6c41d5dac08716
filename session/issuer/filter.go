package issuer

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// Filter selects active sessions of all subjects. Fields that are zero select all.
type Filter struct {
	Subject       string       `json:"user,omitzero"`
	Address       netip.Prefix `json:"address,omitzero"`    // sessions whose client's address or network is in this network
	UserAgent     string       `json:"user_agent,omitzero"` // a part of the user agent, in any case
	CreatedAfter  time.Time    `json:"created_after,omitzero"`
	CreatedBefore time.Time    `json:"created_before,omitzero"`
	SeenBefore    time.Time    `json:"seen_before,omitzero"` // sessions that were not used since
}

// Search lists active sessions of all subjects, newest first. It looks at a bounded number of sessions.
// Therefore a page may have fewer sessions than page.Limit, or none, although there are more. The next page
// begins before the id next, which is empty if there are no more sessions.
func (m *Manager) Search(ctx context.Context, f Filter, page Page) (found []Session, next string, err error) {
	found, next, err = m.Ledger.Search(ctx, f, m.Now(), page)
	if err != nil {
		return nil, "", fmt.Errorf("issuer.Search: %w", err)
	}
	return found, next, nil
}

// Count counts the active sessions that a filter selects. It calls progress with what it has counted so far;
// progress may be nil.
func (m *Manager) Count(ctx context.Context, f Filter, progress func(n int64)) (total int64, err error) {
	now := m.Now()
	for before := ""; ; {
		var n int64
		if n, before, err = m.Ledger.Count(ctx, f, now, before); err != nil {
			return 0, fmt.Errorf("issuer.Count: %w", err)
		}
		total += n
		if progress != nil {
			progress(total)
		}
		if before == "" {
			return total, nil
		}
	}
}

// RevokeAny ends one session of any subject. It returns the errors of Revoke.
func (m *Manager) RevokeAny(ctx context.Context, id string, reason Reason) (Session, error) {
	subject, err := m.Ledger.SubjectOf(ctx, id)
	if err != nil {
		return Session{}, fmt.Errorf("issuer.RevokeAny: %w", err)
	}
	return m.Revoke(ctx, subject, id, reason)
}
