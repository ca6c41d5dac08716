package issuer

import (
	"context"
	"fmt"
	"net/netip"
	"time"
	"unicode/utf8"
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

// FilterText is a filter as people and programs write it. Empty fields select all.
type FilterText struct {
	User          string // the id of a user
	Address       string // an IP address, or a network in CIDR notation
	UserAgent     string
	CreatedAfter  string // RFC 3339, like the other times
	CreatedBefore string
	SeenBefore    string
}

// maxUserAgent is the length of the longest user agent that a session has, in bytes.
const maxUserAgent = 512

// Parse returns the filter, and reports each invalid field by its name in JSON.
func (text FilterText) Parse(invalid func(field, detail string)) Filter {
	f := Filter{Subject: text.User, UserAgent: text.UserAgent}
	if text.User != "" && !ValidID(text.User) {
		invalid("user", "is not the id of a user")
	}
	if text.Address != "" {
		var ok bool
		if f.Address, ok = parseNetwork(text.Address); !ok {
			invalid("address", "must be an IP address or a network such as 203.0.113.0/24")
		}
	}
	if len(text.UserAgent) > maxUserAgent || !utf8.ValidString(text.UserAgent) {
		invalid("user_agent", "is not a part of any user agent")
	}
	for _, t := range []struct {
		field, text string
		at          *time.Time
	}{
		{"created_after", text.CreatedAfter, &f.CreatedAfter},
		{"created_before", text.CreatedBefore, &f.CreatedBefore},
		{"seen_before", text.SeenBefore, &f.SeenBefore},
	} {
		at, err := time.Parse(time.RFC3339, t.text)
		switch {
		case t.text == "":
		case err != nil || at.Unix() < 0: // the time in an id is not negative
			invalid(t.field, "must be a time in RFC 3339 such as 2026-03-01T09:30:00Z")
		default:
			*t.at = at.UTC()
		}
	}
	return f
}

// parseNetwork parses a network in CIDR notation, or an address as a network of one.
func parseNetwork(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err == nil && !p.Addr().Is4In6()
}
