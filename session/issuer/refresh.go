package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// theftMail is the kind of the mail that tells users that their refresh token was stolen.
const theftMail = "token_theft"

// NoRefreshLimit is a [Manager.RefreshGrace] without a limit of time.
const NoRefreshLimit time.Duration = -1

// Refresh exchanges a refresh token for a new token set (RFC 6749 section 6) with a new refresh
// token (RFC 9700 section 4.14). It returns [session.ErrInvalidToken] if the token is unknown or its
// successor was used, or its session has ended. After [session.ErrUnavailable] the client can try
// again with the same token, however late.
func (m *Manager) Refresh(ctx context.Context, token string) (TokenSet, Session, error) {
	presented, ok := parseRefreshToken(token)
	if !ok {
		observed(m.Observer).Refreshed(refreshInvalid)
		return TokenSet{}, Session{}, invalid("refresh token is malformed")
	}
	now := m.Now()
	var next refreshToken
	again := false
	s, revocation, err := m.Ledger.Rotate(ctx, presented.family(), func(r Rotatable) (rotation Rotation, err error) {
		rotation, next, err = m.rotate(r, presented, now)
		again = presented.hash() == r.Previous
		return rotation, err
	})
	observed(m.Observer).Refreshed(refreshOutcome(revocation, again, err))
	switch {
	case errors.Is(err, ErrNotFound):
		return TokenSet{}, Session{}, invalid("refresh token is unknown")
	case err != nil:
		return TokenSet{}, Session{}, fmt.Errorf("issuer.Refresh: %w", err)
	case revocation != nil:
		m.Log.WarnContext(ctx, "a replaced refresh token was used again; session revoked", "session", s.ID, "subject", s.Subject)
		if err := m.enforce(ctx, *revocation, enforceWait); err != nil {
			return TokenSet{}, Session{}, err
		}
		return TokenSet{}, Session{}, invalid("refresh token was used before")
	}
	set, err := m.tokens(&s, now)
	if err != nil {
		return TokenSet{}, Session{}, err
	}
	set.RefreshToken = next.String()
	return set, s, nil
}

// rotate decides what happens to a session when a client presents one of its refresh tokens.
func (m *Manager) rotate(r Rotatable, presented refreshToken, now time.Time) (_ Rotation, next refreshToken, err error) {
	if r.StatusAt(now) != StatusActive {
		return Rotation{}, next, invalid("session has ended")
	}
	rotation := Rotation{
		TokenID: NewID(), At: now, ExpiresAt: earlier(now.Add(m.IdleTTL), r.MaxExpiresAt),
		Current: r.Current, Previous: r.Previous, Sealed: r.Sealed, RotatedAt: r.RotatedAt,
	}
	rotation.AccessExpiresAt = m.accessExpiry(now, rotation.ExpiresAt)
	switch hash := presented.hash(); {
	// The client presents the current token. The client gets a new token, which becomes the current
	// one. The ledger keeps the new token encrypted, for the case that the reply gets lost.
	case hash == r.Current:
		next = presented.successor()
		rotation.Current, rotation.Previous, rotation.RotatedAt = next.hash(), hash, now
		rotation.Sealed, err = presented.seal(next)
		return rotation, next, err

	// The client presents the previous token. The current one was never used, so the reply to the
	// refresh was lost, or two tabs refreshed at once. The client gets the current token again.
	case hash == r.Previous && (m.RefreshGrace == NoRefreshLimit || now.Before(r.RotatedAt.Add(m.RefreshGrace))):
		next, err = presented.open(r.Sealed)
		return rotation, next, err

	// The client presents a token whose successor was used. One of two clients with the same token
	// is a thief. We cannot know which one, so the session ends for both.
	default:
		return Rotation{End: &Ending{At: now, Reason: ReasonTokenTheft, By: BySystem}, Notify: theftMail}, next, nil
	}
}

// RevokeRefresh ends the session of a refresh token (RFC 7009). It reports whether there was one,
// and it is not an error if there was none.
func (m *Manager) RevokeRefresh(ctx context.Context, token string) (found bool, err error) {
	presented, ok := parseRefreshToken(token)
	if !ok {
		return false, nil
	}
	end := Ending{At: m.Now(), Reason: ReasonLogout, By: ByUser}
	_, revocation, err := m.Ledger.Rotate(ctx, presented.family(), func(Rotatable) (Rotation, error) {
		return Rotation{End: &end}, nil
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return true, fmt.Errorf("issuer.RevokeRefresh: %w", err)
	}
	return true, m.enforce(ctx, *revocation, enforceWait)
}
