package issuer

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Margin is how long after a token's expiry the store still remembers what it knows about the
// token: the leeway of a check, plus twice the clock skew that is tolerated between a replica, the
// database and Redis. Otherwise a revoked token would be accepted again between its expiry and the
// end of the leeway.
const Margin = session.Leeway + 2*clockSkew

const clockSkew = 60 * time.Second

// LeaseTTL is how long a replica may take to read a session from the ledger and backfill it.
const LeaseTTL = 3 * time.Second

// Store is a cache of the ledger that all replicas share. It may lose anything at any moment. A
// loss never makes a check accept a revoked token or refuse an honest user, because a check reads
// lost data from the ledger.
//
// Only Backfill creates active entries. An entry expires Margin after the newest access token of
// its session. If the store cannot be reached, every method returns [session.ErrUnavailable].
type Store interface {
	session.Store

	// Lease takes, for LeaseTTL, the lease that a caller needs to backfill sessions of the subject.
	// It reports false while another caller holds the lease. Apply ends the lease. Otherwise a
	// session that was read before a revocation could be backfilled after the revocation.
	Lease(ctx context.Context, subject string) (lease string, ok bool, err error)

	// Backfill writes what the ledger says of a session to the store, if the lease is still held
	// and the store has no higher generation. It reports whether it wrote. It always ends the lease.
	Backfill(ctx context.Context, lease string, ref session.Ref, snapshot Snapshot) (done bool, err error)

	// Apply enforces a revocation. After Apply has returned nil, every later Look at a revoked
	// session or token finds the revocation, or finds no generation. Apply never creates a missing
	// generation. After an eviction, a delayed Apply could otherwise restore a lower generation and
	// revive revoked sessions.
	Apply(ctx context.Context, r Revocation) error

	// Ping returns nil if the store answers.
	Ping(ctx context.Context) error
}

// Snapshot is what the ledger says of a session and its subject, read at one moment. The subject's
// generation can be higher than the session's. A store that has lost the subject's generation needs
// it, because the store would otherwise accept sessions that a revocation has ended.
type Snapshot struct {
	Entry             session.Entry
	Until             time.Time // expiry of the session's newest access token; the store keeps Entry until Margin later
	SubjectGeneration int64
	SubjectUntil      time.Time // expiry of the subject's newest access token; the store keeps SubjectGeneration until Margin later
}
