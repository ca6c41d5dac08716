package session

import (
	"context"
	"slices"
	"time"
)

// Leeway is how long after its expiry a token is still accepted, because clocks differ.
const Leeway = 30 * time.Second

// Store is what a check asks: one round trip to a cache that every replica shares. The cache may
// lose anything at any moment. Nothing is accepted or refused because of a loss: what is missing is
// unknown, and the [Fallback] decides.
type Store interface {
	// Look returns all that the store knows of a token, in one round trip. If the store cannot be
	// reached, the error is [ErrUnavailable].
	//
	// It reads the generation before the entry. A revocation of all other sessions raises the
	// generation and drops the kept session's entry in one step. In this order a concurrent reader
	// finds no entry and asks the fallback. In the other order it would see the old entry under the
	// new generation and refuse the session that was kept.
	Look(ctx context.Context, ref Ref) (Lookup, error)
}

// Ref names a token, its session and its subject.
type Ref struct {
	Subject, SessionID, TokenID string
}

// Lookup is what the store knows of a token. The zero value means that it knows nothing.
type Lookup struct {
	TokenRevoked  bool  // this token was revoked, apart from its session
	Generation    int64 // of the subject, if HasGeneration
	Entry         Entry // of the session, if HasEntry
	HasGeneration bool
	HasEntry      bool
}

// Entry is what the store keeps of a session.
type Entry struct {
	Ended      bool
	Generation int64
	// ExpiresAt is when the session expires, in whole seconds. After it the verdict is unknown.
	ExpiresAt time.Time
	// RevokedTokens are the ids (jti) of this session's revoked tokens. Because they stand here
	// too, losing the store's own record of a revoked token does not revive it.
	RevokedTokens []string
}

// verdict is what the store says of a token.
type verdict int

const (
	unknown verdict = iota
	active
	revoked
)

// verdict decides whether a token is accepted. If anything is missing or out of date the verdict is
// unknown, which never signs a user out: the fallback decides.
func (l *Lookup) verdict(tokenID string, now time.Time) verdict {
	switch {
	case l.TokenRevoked, l.HasEntry && l.Entry.Ended:
		return revoked
	case !l.HasEntry, !l.HasGeneration:
		return unknown
	case l.Entry.Generation < l.Generation, slices.Contains(l.Entry.RevokedTokens, tokenID):
		return revoked
	case !now.Before(l.Entry.ExpiresAt):
		// A refresh may have prolonged the session since the entry was written.
		return unknown
	default:
		return active
	}
}
