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

	// Epochs returns what Look knows of the current epochs. [Manager.PollEpochs] updates it.
	Epochs() *session.Epochs

	// Servers returns the servers that the store uses now. It returns those that answer, with an
	// error, if some do not or may not write.
	Servers(ctx context.Context) ([]Server, error)

	// Lease takes the session's lease for LeaseTTL, in the current epoch. It reports false while
	// another caller holds it, or if the server has no current epoch. Apply ends all leases of the
	// subject, so that what was read before a revocation cannot be backfilled after it.
	Lease(ctx context.Context, ref session.Ref) (lease string, ok bool, err error)

	// Backfill stores what the ledger says, if the lease is still held and the store has no higher
	// generation. It never raises a generation. It reports whether it stored the entry. Either way it
	// gives the lease back.
	Backfill(ctx context.Context, lease string, ref session.Ref, snapshot Snapshot) (done bool, err error)

	// Apply enforces a revocation: once it has returned nil, every later Look at what was revoked
	// shows it, or shows no generation. Apply never creates a missing generation. After an
	// eviction, a delayed Apply could otherwise restore a lower one and revive revoked sessions. It
	// returns the names of the servers that took the revocation.
	Apply(ctx context.Context, r Revocation) (servers []string, err error)

	// Ping returns nil if the store answers.
	Ping(ctx context.Context) error
}

// Server names a server of the store.
type Server struct {
	ID string // changes whenever its data may have returned to an earlier state
	// Supersedes is the ID of the master that a Cluster promoted this server from. If it is empty,
	// the server replaces all others.
	Supersedes string
}

// Snapshot is what the ledger said of a session and its subject in one reading. The subject's
// generation may be higher than the entry's. A store that has lost it must learn the higher one.
// Otherwise it would accept entries that a revocation ended.
type Snapshot struct {
	Entry             session.Entry
	Until             time.Time // expiry of the session's newest access token; the store keeps Entry until Margin later
	SubjectGeneration int64
	SubjectUntil      time.Time // expiry of the subject's newest access token; the store keeps SubjectGeneration until Margin later
}
