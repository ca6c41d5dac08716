package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Manager opens, refreshes, lists and revokes sessions. It embeds the [session.Verifier] that
// checks access tokens. All fields are required unless their comments say otherwise.
type Manager struct {
	session.Verifier

	// Store applies revocations. The Verifier's Store must be the same store.
	Store  Store
	Ledger Ledger
	Log    *slog.Logger

	// OtherAudiences are further aud of access tokens, after the Verifier's Audience.
	OtherAudiences []string
	// AccessTTL is the life of an access token.
	AccessTTL time.Duration
	// IdleTTL is how long after the login or the last refresh a session expires.
	IdleTTL time.Duration
	// MaxTTL is how long after the login a session expires, even if it is refreshed.
	MaxTTL time.Duration
	// RefreshGrace is how long after a refresh the client may fetch a lost reply again, with the
	// same refresh token. Zero: not at all. [NoRefreshLimit]: until the reply's token was used.
	RefreshGrace time.Duration
	// MaxSessions is how many active sessions a user may have. 0 means no limit.
	MaxSessions int
	// If EndOldest is true, a login beyond MaxSessions ends the user's oldest sessions. Otherwise
	// such a login is refused.
	EndOldest bool

	// Changed, if set, is called with the name of each change of state that PollEpochs finds. The
	// names are in Changes.
	Changed func(change string)
	// Observer receives what happens to sessions. It may be nil.
	Observer Observer

	state   atomic.Pointer[state] // what the latest poll found; nil before the first one
	settled atomic.Bool           // whether this replica can enforce revocations
}

// TokenSet is what the client receives after a login, a refresh or a re-authentication.
type TokenSet struct {
	AccessToken  string
	RefreshToken string        // empty after a re-authentication, which does not change the refresh token
	TokenID      string        // jti of AccessToken
	ExpiresIn    time.Duration // life of AccessToken, in whole seconds
}

// Subject is a user whose password was just verified.
type Subject struct {
	ID                string
	CredentialVersion int64 // the version of the password that was verified
}

// pwd is the RFC 8176 name for authentication by password.
const pwd = "pwd"

// clientID is the client_id of every access token (RFC 9068 section 2.2). It is fixed, because
// users sign in to sessiond directly and not through a third party.
const clientID = "sessiond"

// Start opens a session for a user whose password was just verified. If its error is nil, the ledger
// has recorded the login. The error can be ErrSubjectGone, ErrCredentialChanged, ErrTooManySessions
// or [session.ErrUnavailable].
func (m *Manager) Start(ctx context.Context, subject Subject, client Client) (TokenSet, Session, error) {
	now := m.Now()
	refresh := newRefreshToken()
	maxExpiry := now.Add(m.MaxTTL)
	expiry := earlier(now.Add(m.IdleTTL), maxExpiry)
	s, displaced, err := m.Ledger.Start(ctx, Start{
		ID: NewTimedID(now), Subject: subject.ID, TokenID: NewID(),
		CredentialVersion: subject.CredentialVersion, Client: client, AMR: pwd, At: now,
		AccessExpiresAt: m.accessExpiry(now, expiry), ExpiresAt: expiry, MaxExpiresAt: maxExpiry,
		RefreshFamily: refresh.family(), RefreshCurrent: refresh.hash(),
		MaxSessions: m.MaxSessions, EndOldest: m.EndOldest,
	})
	observed(m.Observer).Started(startOutcome(err))
	if err != nil {
		return TokenSet{}, Session{}, fmt.Errorf("issuer.Start: %w", err)
	}
	for i, r := range displaced {
		if err := m.enforce(ctx, r, 0); err != nil {
			// The login must not fail because of that, nor wait for each of them. The outbox enforces
			// the revocations later.
			m.Log.WarnContext(ctx, "a session that a newer login displaced is not revoked yet", "error", err)
			m.recorded(displaced[i+1:]...)
			break
		}
	}
	set, err := m.tokens(&s, now)
	if err != nil {
		return TokenSet{}, Session{}, err
	}
	set.RefreshToken = refresh.String()
	return set, s, nil
}

// Reauthenticate records that the user of an active session has entered the password again. It
// returns an access token with the new AuthTime, and revokes the access token with the claims
// replaced. Otherwise a thief with a copy of that token would keep it. Other access tokens and the
// refresh token stay valid. Reauthenticate returns the errors of Start, and [session.ErrRevoked] if
// the session has ended.
func (m *Manager) Reauthenticate(ctx context.Context, replaced session.Claims, subject Subject) (TokenSet, Session, error) {
	now := m.Now()
	// The recorded exp can be later than the token's exp, because the session's expiry is unknown here.
	s, revocation, err := m.Ledger.Reauthenticate(ctx, Reauthentication{
		Subject: subject.ID, ID: replaced.SessionID, TokenID: NewID(), CredentialVersion: subject.CredentialVersion,
		AMR: pwd, At: now, AccessExpiresAt: m.accessExpiry(now, now.Add(m.AccessTTL)),
		ReplacedTokenID: replaced.TokenID, ReplacedExpiresAt: replaced.ExpiresAt,
	})
	if errors.Is(err, ErrNotFound) {
		return TokenSet{}, Session{}, session.ErrRevoked
	}
	if err != nil {
		return TokenSet{}, Session{}, fmt.Errorf("issuer.Reauthenticate: %w", err)
	}
	if err := m.enforce(ctx, revocation, enforceWait); err != nil {
		// The outbox enforces it later. With an error, the client would come back with the replaced token.
		m.Log.WarnContext(ctx, "a replaced access token is refused later", "session", s.ID, "error", err)
	}
	set, err := m.tokens(&s, now)
	return set, s, err
}

// accessExpiry returns the exp of an access token that is issued now. It is never later than the
// session's expiry.
func (m *Manager) accessExpiry(now, sessionExpiry time.Time) time.Time {
	issued := now.Truncate(time.Second)
	return earlier(issued.Add(m.AccessTTL), sessionExpiry.Truncate(time.Second))
}

// tokens signs the newest access token of a session and returns it in a token set.
func (m *Manager) tokens(s *Session, now time.Time) (TokenSet, error) {
	issued := now.Truncate(time.Second)
	claims := session.Claims{
		Issuer: m.Issuer, Audience: append([]string{m.Audience}, m.OtherAudiences...), Subject: s.Subject, SessionID: s.ID, TokenID: s.TokenID,
		ClientID: clientID, Username: s.Username, AMR: []string{s.AMR}, Attributes: session.Attributes{Roles: s.Roles},
		IssuedAt: issued, ExpiresAt: m.accessExpiry(now, s.ExpiresAt), AuthTime: s.AuthTime,
	}
	token, err := m.Keys.Load().Sign(&claims)
	if err != nil {
		return TokenSet{}, err
	}
	return TokenSet{AccessToken: token, TokenID: s.TokenID, ExpiresIn: claims.ExpiresAt.Sub(issued)}, nil
}

// Find returns an active session of a subject. The error can be ErrNotFound or
// [session.ErrUnavailable].
func (m *Manager) Find(ctx context.Context, subject, id string) (Session, error) {
	now := m.Now()
	record, err := m.Ledger.Find(ctx, subject, id, now)
	if err != nil {
		return Session{}, fmt.Errorf("issuer.Find: %w", err)
	}
	if record.StatusAt(now) != StatusActive {
		return Session{}, ErrNotFound
	}
	return record.Session, nil
}

// Active lists the active sessions of a subject, newest first.
func (m *Manager) Active(ctx context.Context, subject string, page Page) ([]Session, error) {
	list, err := m.Ledger.Active(ctx, subject, m.Now(), page)
	if err != nil {
		return nil, fmt.Errorf("issuer.Active: %w", err)
	}
	return list, nil
}

// History lists all logins of a subject, including ended and failed ones, newest first.
func (m *Manager) History(ctx context.Context, subject string, page Page) ([]Login, error) {
	list, err := m.Ledger.History(ctx, subject, page)
	if err != nil {
		return nil, fmt.Errorf("issuer.History: %w", err)
	}
	return list, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
