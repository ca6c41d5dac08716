package session

import (
	"context"
	"slices"
	"time"
)

// Leeway is how long after its expiry a token is still accepted, because clocks may differ.
const Leeway = 30 * time.Second

// Store is a cache of sessions that all replicas share. It may lose anything at any moment. If data
// about a token was lost, its status is unknown, and the [Fallback] decides whether it is accepted.
type Store interface {
	// Look returns all that the store knows of a token, in one round trip. If the store cannot be
	// reached, the error is [ErrUnavailable].
	//
	// Look reads the subject's generation before the session's entry, or both at one moment.
	// Revoking all other sessions raises the generation and drops the entry of the kept session in
	// one step. Look then finds no entry, and the fallback decides. In the other order, Look could
	// find the old entry and the new generation, and the kept session would be refused.
	Look(ctx context.Context, ref Ref) (Lookup, error)
}

// Ref names a token, its session and its subject.
type Ref struct {
	Subject, SessionID, TokenID string
}

// Lookup is what the store knows of a token. The zero value means that it knows nothing.
type Lookup struct {
	TokenRevoked  bool  // the token itself was revoked, and not only its session
	Generation    int64 // the subject's generation; valid if HasGeneration is set
	Entry         Entry // the session's record; valid if HasEntry is set
	HasGeneration bool
	HasEntry      bool
}

// Entry is the store's record of a session.
type Entry struct {
	Ended      bool
	Generation int64
	// ExpiresAt is when the session expires, in whole seconds. After that time, the store answers that
	// it does not know the session.
	ExpiresAt time.Time
	// RevokedTokens are the ids (jti) of this session's revoked tokens. Each of them is refused
	// even if the store has lost its separate record of that revoked token.
	RevokedTokens []string
}

// verdict is what the store says about a token: active, revoked or unknown.
type verdict int

const (
	unknown verdict = iota
	active
	revoked
)

// verdict returns unknown if anything is missing or out of date, because the fallback must then
// decide. Otherwise lost data in the store could sign a user out.
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
