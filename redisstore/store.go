package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// Store is an [issuer.Store] in Redis. It is safe for concurrent use.
type Store struct {
	client       redis.UniversalClient
	cluster      *redis.ClusterClient // the same value as client, or nil if Redis is not a Cluster
	keys         keys
	lookTimeout  time.Duration
	applyTimeout time.Duration
	unbatched    bool
	batchers     sync.Map // maps each server's redis.UniversalClient to its *batcher
}

var _ issuer.Store = (*Store)(nil)

// Options configure a Store. The zero value has useful defaults.
type Options struct {
	// Prefix begins the name of every key. It must not contain a brace.
	Prefix string
	// LookTimeout limits each call of Look, Lease, Backfill and Ping, including dialing and waiting
	// for a connection. The default is 120 ms, so that a check gets its answer from the ledger
	// within 150 ms if Redis does not answer.
	LookTimeout time.Duration
	// ApplyTimeout limits each call of Apply, including dialing and waiting for a connection. The
	// default is 500 ms.
	ApplyTimeout time.Duration
	// PoolSize is the maximum number of connections to each server. The default is 10 for each CPU.
	PoolSize int
	// Unbatched sends every lookup in its own round trip. Benchmarks use it to measure batching.
	Unbatched bool
}

// Open returns a Store on the Redis at redisURL. [NewClient] documents the forms of the URL. The
// store connects when it is first used. Errors never quote the URL.
func Open(redisURL string, opts Options) (*Store, error) {
	if _, err := newKeys(opts.Prefix); err != nil {
		return nil, err
	}
	client, err := NewClient(redisURL, opts)
	if err != nil {
		return nil, err
	}
	return New(client, opts), nil
}

// New returns a Store that uses client and closes the client in Close. The client must have
// ContextTimeoutEnabled, otherwise the timeouts in opts have no effect. The client must have
// MaxRetries -1, otherwise it sends the same command to a demoted master several times. New panics
// if opts.Prefix contains a brace.
func New(client redis.UniversalClient, opts Options) *Store {
	keys, err := newKeys(opts.Prefix)
	if err != nil {
		panic(err)
	}
	cluster, _ := client.(*redis.ClusterClient)
	return &Store{
		client:       client,
		cluster:      cluster,
		keys:         keys,
		lookTimeout:  cmp.Or(opts.LookTimeout, 120*time.Millisecond),
		applyTimeout: cmp.Or(opts.ApplyTimeout, 500*time.Millisecond),
		unbatched:    opts.Unbatched,
	}
}

// Look implements [session.Store]. A value that cannot be decoded, such as a foreign entry or a
// non-numeric generation, counts as missing.
func (s *Store) Look(ctx context.Context, ref session.Ref) (session.Lookup, error) {
	if s.cluster != nil {
		// The batcher's timeout covers only one round trip. On a Cluster, Look may also ask for the
		// key's node, and look again while a slot moves between nodes.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.lookTimeout)
		defer cancel()
	}
	keys := s.keys.check(ref)
	var result session.Lookup
	b, err := s.batcher(ctx, keys)
	if err == nil {
		result, err = b.look(ctx, keys)
	}
	if err != nil && s.cluster != nil && redirected(err) {
		result, err = s.lookInMovingSlot(ctx, keys)
	}
	if err != nil {
		return session.Lookup{}, unavailable(err, "look up session %s", ref.SessionID)
	}
	return result, nil
}

// Lease implements [issuer.Store]. The lease is a random id, a colon and the server's lineage.
func (s *Store) Lease(ctx context.Context, subject string) (lease string, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.lookTimeout)
	defer cancel()
	id := issuer.NewID()
	replid, err := takeLease.Run(ctx, s.client, []string{s.keys.lease(subject)}, id, issuer.LeaseTTL.Milliseconds()).Text()
	switch {
	case errors.Is(err, redis.Nil):
		return "", false, nil
	case err != nil:
		return "", false, unavailable(err, "lease subject %s", subject)
	}
	return id + ":" + replid, true, nil
}

// Backfill implements [issuer.Store]. It also reports false if the snapshot has expired, or if the
// server's lineage has changed since the caller took the lease.
func (s *Store) Backfill(ctx context.Context, lease string, ref session.Ref, snapshot issuer.Snapshot) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.lookTimeout)
	defer cancel()
	id, replid, _ := strings.Cut(lease, ":")
	written, _ := parseLineage(replid) // an entry with an invalid lineage counts as missing in every Look
	done, err = backfill.Run(ctx, s.client,
		[]string{s.keys.lease(ref.Subject), s.keys.session(ref.Subject, ref.SessionID), s.keys.generation(ref.Subject)},
		id, replid, encodeEntry(snapshot.Entry, written), expiry(snapshot.Until), snapshot.SubjectGeneration, expiry(snapshot.SubjectUntil),
	).Bool()
	if err != nil {
		return false, unavailable(err, "backfill session %s", ref.SessionID)
	}
	return done, nil
}

// Apply implements [issuer.Store]. It does not retry.
func (s *Store) Apply(ctx context.Context, r issuer.Revocation) error {
	ctx, cancel := context.WithTimeout(ctx, s.applyTimeout)
	defer cancel()
	lease := s.keys.lease(r.Subject)
	var err error
	switch {
	case r.TokenID != "":
		err = revokeToken.Run(ctx, s.client,
			[]string{lease, s.keys.session(r.Subject, r.SessionID), s.keys.revokedToken(r.Subject, r.TokenID)},
			expiry(r.Until)).Err()
	case r.Generation != 0:
		keys := []string{lease, s.keys.generation(r.Subject)}
		if r.Keep != "" {
			keys = append(keys, s.keys.session(r.Subject, r.Keep))
		}
		err = raiseGeneration.Run(ctx, s.client, keys, r.Generation, expiry(r.Until)).Err()
	case r.SessionID != "":
		err = revokeSession.Run(ctx, s.client,
			[]string{lease, s.keys.session(r.Subject, r.SessionID)},
			endedEntry, expiry(r.Until)).Err()
	default:
		return fmt.Errorf("redisstore: revocation %d of subject %s names no session, token or generation", r.ID, r.Subject)
	}
	if err != nil {
		return unavailable(err, "apply revocation %d of subject %s", r.ID, r.Subject)
	}
	return nil
}

// Ping implements [issuer.Store].
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.lookTimeout)
	defer cancel()
	if err := s.client.Ping(ctx).Err(); err != nil {
		return unavailable(err, "ping")
	}
	return nil
}

// Close closes the connections. The Store cannot be used afterwards.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil {
		return fmt.Errorf("redisstore: close: %w", err)
	}
	return nil
}

// expiry returns the time in Unix milliseconds at which a key expires. The parameter until is the
// expiry of the newest token. The result is at least 1, because Redis accepts only times after 1970.
func expiry(until time.Time) int64 {
	return max(until.Add(issuer.Margin).UnixMilli(), 1)
}

// unavailable wraps an error of Redis or of the network.
func unavailable(err error, format string, args ...any) error {
	return fmt.Errorf("redisstore: %s: %w: %w", fmt.Sprintf(format, args...), session.ErrUnavailable, err)
}
