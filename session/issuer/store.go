package issuer

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Margin is how long after a token's expiry the store still remembers what it knows of it: the
// leeway of a check, plus twice the clock skew that is tolerated between a replica, the database
// and Redis. Otherwise a revoked token would be accepted again between its expiry and the end of
// the leeway.
const Margin = session.Leeway + 2*clockSkew

const clockSkew = 60 * time.Second

// LeaseTTL bounds how long one replica may take to read a session from the ledger and backfill it.
const LeaseTTL = 3 * time.Second

// Store is a cache of the ledger that all replicas share. It may lose anything at any moment. A
// loss never makes a check accept a revoked token or refuse an honest user, because what is missing
// is read from the ledger.
//
// Active entries come in by Backfill only. An entry expires Margin after the newest token it
// answers for. If the store cannot be reached, every method returns [session.ErrUnavailable].
type Store interface {
	session.Store

	// Lease takes the subject's lease for LeaseTTL. It reports false while another caller holds it.
	// Apply ends the lease, so that a session read before a revocation cannot be backfilled after
	// it.
	Lease(ctx context.Context, subject string) (lease string, ok bool, err error)

	// Backfill stores what the ledger says, if the lease is still held and the store has no higher
	// generation. It never raises a generation. It reports whether it stored the entry. Either way it
	// gives the lease back.
	Backfill(ctx context.Context, lease string, ref session.Ref, snapshot Snapshot) (done bool, err error)

	// Apply enforces a revocation: once it has returned nil, every later Look at what was revoked
	// shows it, or shows no generation. Apply never creates a missing generation. After an
	// eviction, a delayed Apply could otherwise restore a lower one and revive revoked sessions.
	Apply(ctx context.Context, r Revocation) error

	// Ping returns nil if the store answers.
	Ping(ctx context.Context) error
}

// Snapshot is what the ledger said of a session and its subject in one reading. The subject's
// generation may be higher than the entry's. A store that has lost it must learn the higher one.
// Otherwise it would accept entries that a revocation ended.
type Snapshot struct {
	Entry             session.Entry
	Until             time.Time // expiry of the session's newest access token; kept for Margin longer
	SubjectGeneration int64
	SubjectUntil      time.Time // expiry of the subject's newest access token; kept for Margin longer
}
