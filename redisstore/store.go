package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// Store is an [issuer.Store] in Redis. It is safe for concurrent use.
type Store struct {
	client       redis.UniversalClient
	cluster      *redis.ClusterClient // the same value as client, or nil if Redis is not a Cluster
	keys         keys
	place        string // of the keys on a server: the part of a server's name behind its master_replid
	epochs       *session.Epochs
	lookTimeout  time.Duration
	applyTimeout time.Duration
	unbatched    bool
	tracer       trace.Tracer // nil: lookups have no spans
	roundTrips   atomic.Uint64
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
	// Epochs says which servers count. It is [session.FetchEpochs] in a service that only checks
	// tokens. If it is nil, the Store trusts no server until somebody calls Learn of Store.Epochs.
	Epochs *session.Epochs
	// Unbatched sends every lookup in its own round trip. Benchmarks use it to measure batching.
	Unbatched bool
	// Tracer starts a span for each lookup, and for each batch of lookups. If it is nil, there are no
	// spans.
	Tracer trace.Tracer
	// If Instrument is not nil, Open calls it with the client, before the client's first use. A program
	// can add hooks there.
	Instrument func(redis.UniversalClient) error
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
	if opts.Instrument != nil {
		if err := opts.Instrument(client); err != nil {
			return nil, errors.Join(fmt.Errorf("redisstore: instrument the client: %w", err), client.Close())
		}
	}
	return New(client, opts), nil
}

// New returns a Store that uses client and closes the client in Close. The client must have
// ContextTimeoutEnabled, otherwise the timeouts in opts have no effect. The client must have
// MaxRetries -1, otherwise it sends the same command to a demoted master several times. The client of
// a Cluster still sends a lease, a backfill or a revocation up to three more times, after a redirection,
// READONLY or a lost connection. All of them may be repeated. New panics if opts.Prefix contains a brace.
func New(client redis.UniversalClient, opts Options) *Store {
	keys, err := newKeys(opts.Prefix)
	if err != nil {
		panic(err)
	}
	cluster, _ := client.(*redis.ClusterClient)
	place := "/cluster/" + opts.Prefix
	if single, ok := client.(*redis.Client); ok {
		place = fmt.Sprintf("/%d/%s", single.Options().DB, opts.Prefix)
	}
	return &Store{
		client:       client,
		cluster:      cluster,
		keys:         keys,
		place:        place,
		epochs:       cmp.Or(opts.Epochs, new(session.Epochs)),
		lookTimeout:  cmp.Or(opts.LookTimeout, 120*time.Millisecond),
		applyTimeout: cmp.Or(opts.ApplyTimeout, 500*time.Millisecond),
		unbatched:    opts.Unbatched,
		tracer:       opts.Tracer,
	}
}

// Look implements [session.Store]. A value that cannot be decoded, such as a foreign entry or a
// non-numeric generation, counts as missing.
func (s *Store) Look(ctx context.Context, ref session.Ref) (session.Lookup, error) {
	if s.tracer != nil {
		return s.tracedLook(ctx, ref)
	}
	return s.look(ctx, ref)
}

func (s *Store) look(ctx context.Context, ref session.Ref) (session.Lookup, error) {
	if s.cluster != nil {
		// The batcher limits only its own round trip, and finding the node takes time too.
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
	if err != nil && redirected(err) {
		return session.Lookup{}, nil // the keys' slot moves to another server, and the ledger decides
	}
	if err != nil {
		return session.Lookup{}, unavailable(err, "look up session %s", ref.SessionID)
	}
	return result, nil
}

// Lease implements [issuer.Store]. The lease is a random id, followed by the epoch and the server that
// it belongs to, and the subject's lease.
func (s *Store) Lease(ctx context.Context, ref session.Ref) (lease string, ok bool, err error) {
	// The epoch must be known before the caller reads the ledger.
	current := s.epochs.Current(time.Now(), time.Time{})
	if len(current) == 0 {
		return "", false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.lookTimeout)
	defer cancel()
	id := issuer.NewID()
	reply, err := takeLease.Run(ctx, s.client,
		[]string{s.keys.lease(ref.Subject), s.keys.sessionLease(ref.Subject, ref.SessionID)}, id, issuer.LeaseTTL.Milliseconds(), fmt.Sprint(current)).StringSlice()
	switch {
	case errors.Is(err, redis.Nil):
		return "", false, nil
	case err != nil:
		return "", false, unavailable(err, "lease session %s", ref.SessionID)
	}
	shared, replid := reply[0], reply[1]
	epoch := s.epochOn(replid, current)
	return strings.Join([]string{id, strconv.FormatInt(epoch, 10), replid, shared}, ":"), epoch != 0, nil
}

// Backfill implements [issuer.Store]. It also reports false if the snapshot has expired, or if the
// server has changed since the lease was taken.
func (s *Store) Backfill(ctx context.Context, lease string, ref session.Ref, snapshot issuer.Snapshot) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.lookTimeout)
	defer cancel()
	var parts [4]string
	copy(parts[:], strings.SplitN(lease, ":", len(parts)))
	epoch, _ := strconv.ParseInt(parts[1], 10, 64) // an entry of no epoch is never believed
	done, err = backfill.Run(ctx, s.client,
		[]string{
			s.keys.lease(ref.Subject), s.keys.sessionLease(ref.Subject, ref.SessionID),
			s.keys.session(ref.Subject, ref.SessionID), s.keys.generation(ref.Subject),
		},
		parts[3], parts[3]+parts[0], parts[2], encodeEntry(snapshot.Entry, epoch), expiry(snapshot.Until),
		snapshot.SubjectGeneration, expiry(snapshot.SubjectUntil),
	).Bool()
	if err != nil {
		return false, unavailable(err, "backfill session %s", ref.SessionID)
	}
	return done, nil
}

// step is what a revocation does to one key: del, set to value, or raise a generation to value.
type step struct {
	what, key string
	value     any
}

// steps returns what a revocation does. Each step leaves a safe state behind. The first one makes
// sure that nothing is backfilled that was read before.
func (s *Store) steps(r issuer.Revocation) []step {
	steps := []step{{what: "del", key: s.keys.lease(r.Subject)}}
	entry := s.keys.session(r.Subject, r.SessionID)
	switch {
	case r.TokenID != "": // the next backfill writes an entry that lists the token
		return append(steps, step{"set", s.keys.revokedToken(r.Subject, r.TokenID), "1"}, step{what: "del", key: entry})
	case r.Generation != 0:
		if r.Keep != "" { // replicas of an earlier release take an entry below the generation for revoked
			steps = append(steps, step{what: "del", key: s.keys.session(r.Subject, r.Keep)})
		}
		return append(steps, step{"raise", s.keys.generation(r.Subject), r.Generation})
	case r.SessionID != "":
		return append(steps, step{"set", entry, endedEntry})
	}
	return nil
}

// Apply implements [issuer.Store]. It does not retry, but the client of a Cluster does. While a
// Cluster moves the keys' slot, the keys may be on two servers. Apply then takes one step after the
// other.
func (s *Store) Apply(ctx context.Context, r issuer.Revocation) (servers []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.applyTimeout)
	defer cancel()
	steps := s.steps(r)
	if steps == nil {
		return nil, fmt.Errorf("redisstore: revocation %d of subject %s names no session, token or generation", r.ID, r.Subject)
	}
	run := func(steps []step) error {
		var keys []string
		var args []any
		for _, step := range steps {
			keys, args = append(keys, step.key), append(args, step.what, step.value, expiry(r.Until))
		}
		replid, err := apply.Run(ctx, s.client, keys, args...).Text()
		servers = append(servers, replid+s.place)
		return err
	}
	if err = run(steps); redirected(err) {
		servers, err = nil, nil
		for i := 0; i < len(steps) && err == nil; i++ {
			err = run(steps[i : i+1])
		}
	}
	if err != nil {
		if b, err := s.batcher(ctx, [3]string{steps[0].key}); err == nil {
			b.failed.Store(int64(time.Since(started))) // a check must not find what the revocation could not change
		}
		return nil, unavailable(err, "apply revocation %d of subject %s", r.ID, r.Subject)
	}
	return servers, nil
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
