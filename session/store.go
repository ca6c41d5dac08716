package session

import (
	"context"
	"time"
)

// Margin is how long after a token's expiry the store still remembers what it
// knows of it: the leeway of a check plus twice the clock skew that is
// tolerated between a replica, the database and Redis. Without it a revoked
// token would come back to life between its exp and the end of the leeway.
const (
	Leeway = 30 * time.Second
	skew   = 60 * time.Second
	Margin = Leeway + 2*skew
)

// LeaseTTL bounds how long one replica may take to read a session from the
// ledger and put it back.
const LeaseTTL = 3 * time.Second

// Store holds what a check needs where every replica reaches it in one round
// trip. It is a cache: it may lose anything at any moment without a revoked
// token being accepted or an honest user being refused, because what is missing
// is read from the ledger.
//
// Entries come in by PutBack only and expire Margin after the token they answer
// for. A failure to reach the store is ErrUnavailable.
type Store interface {
	// Look tells, in one round trip, all that is known of a token.
	//
	// The generation is read before the entry: [Store.Apply] of "end the
	// others" raises the one and drops the other at once, and in this order a
	// reader in between finds no entry, which sends it to the ledger, and never
	// an old entry under a new generation, which would refuse the kept session.
	Look(ctx context.Context, ref Ref) (View, error)

	// Lease takes the subject's lease for LeaseTTL; ok is false while another
	// holds it. Apply ends it, so that what was read before a revocation
	// cannot be put back after it.
	Lease(ctx context.Context, subject string) (lease string, ok bool, err error)

	// PutBack stores what the ledger says, if the lease is still held and no
	// higher generation stands; done tells whether it did. It gives the lease
	// back.
	PutBack(ctx context.Context, lease string, ref Ref, fill Fill) (done bool, err error)

	// Apply puts a revocation in force: when it returns nil, every later Look at
	// what was revoked shows it, or shows no generation: one that the store does
	// not know is not created, lest a late Apply of an old one revive what a
	// newer one, meanwhile lost, had ended.
	Apply(ctx context.Context, r Revocation) error

	// Ping asks whether the store answers.
	Ping(ctx context.Context) error
}

// Ref names a token, its session and its subject.
type Ref struct {
	Subject, SessionID, TokenID string
}

// View is what the store knows of a token. All zero: nothing.
type View struct {
	Generation  int64 // of the subject; only meaningful when HasGeneration
	Entry       Entry // of the session; only meaningful when HasEntry
	Blacklisted bool  // the token was revoked by itself

	HasGeneration, HasEntry bool
}

// Entry is what the store keeps of a session.
type Entry struct {
	Ended         bool
	Generation    int64
	ExpiresAt     time.Time // of the session, whole seconds; after it the ledger is asked again
	RevokedTokens []string  // jti of tokens revoked by themselves, so that losing a blacklist entry revives none
}

// Fill is what PutBack stores: a session's entry, and its subject's generation,
// both as one reading of the ledger saw them. The generation is the subject's
// and not the entry's: with an older one, entries that it had ended would be
// accepted again after the store had lost the newer one.
type Fill struct {
	Entry             Entry
	Until             time.Time // expiry of the session's newest access token; kept for Margin longer
	SubjectGeneration int64
	SubjectUntil      time.Time // expiry of the subject's newest access token; kept for Margin longer
}
