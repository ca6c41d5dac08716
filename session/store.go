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
	// Attributes are those of the subject at the time of Generation. A change of them raises the subject's
	// generation, and the entry is then out of date.
	Attributes
}

// verdict is what the store says about a token: active, revoked or unknown.
type verdict int

const (
	unknown verdict = iota
	active
	revoked
)

// verdict returns what follows from a lookup. It is unknown if anything is missing or out of date,
// and then the fallback decides. An entry below the subject's generation is out of date and not
// revoked, because the session may be one that RevokeAll kept.
func (l *Lookup) verdict(tokenID string, now time.Time) verdict {
	switch {
	case l.TokenRevoked, l.HasEntry && l.Entry.Ended:
		return revoked
	case !l.HasEntry, !l.HasGeneration, l.Entry.Generation < l.Generation:
		return unknown
	case slices.Contains(l.Entry.RevokedTokens, tokenID):
		return revoked
	case !now.Before(l.Entry.ExpiresAt):
		// A refresh may have prolonged the session since the entry was written.
		return unknown
	default:
		return active
	}
}
