package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// Store is a [issuer.Store] in Redis. It is safe for concurrent use.
type Store struct {
	client       redis.UniversalClient
	cluster      *redis.ClusterClient // client, when it is one; else nil
	keys         keys
	lookTimeout  time.Duration
	applyTimeout time.Duration
	batchers     batchers
}

var _ issuer.Store = (*Store)(nil)

// Options say how a Store uses its Redis. The zero value is good.
type Options struct {
	// Prefix is put before the name of every key. It contains no brace.
	Prefix string
	// LookTimeout bounds each of Look, Lease, PutBack and Ping, dialing and
	// waiting for a connection included. Zero: 120 ms, so that a check
	// that Redis leaves waiting is answered by the ledger within 150.
	LookTimeout time.Duration
	// ApplyTimeout bounds Apply in the same way. Zero: 500 ms.
	ApplyTimeout time.Duration
	// PoolSize bounds the connections to each server. Zero: 10 for each CPU.
	PoolSize int
	// Unbatched sends every Look by itself, to see what sending them together
	// is worth.
	Unbatched bool
}

const (
	defaultLookTimeout  = 120 * time.Millisecond
	defaultApplyTimeout = 500 * time.Millisecond
)

// Open returns a Store on the Redis that redisURL names, as [NewClient] reads
// it. It connects when it is first used. The error never quotes the URL.
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

// New returns a Store on a client that has ContextTimeoutEnabled, without which
// the timeouts of opts are not kept, and MaxRetries -1, without which a
// demoted master is asked again and again. The Store closes the client. It
// panics when opts.Prefix contains a brace.
func New(client redis.UniversalClient, opts Options) *Store {
	keys, err := newKeys(opts.Prefix)
	if err != nil {
		panic(err)
	}
	s := &Store{client: client, keys: keys, lookTimeout: opts.LookTimeout, applyTimeout: opts.ApplyTimeout}
	if s.lookTimeout == 0 {
		s.lookTimeout = defaultLookTimeout
	}
	if s.applyTimeout == 0 {
		s.applyTimeout = defaultApplyTimeout
	}
	s.cluster, _ = client.(*redis.ClusterClient)
	s.batchers.unbatched = opts.Unbatched
	return s
}

// Look implements [issuer.Store]. What is in Redis but cannot be read, a
// foreign entry or a generation that is no number, is not known.
func (s *Store) Look(ctx context.Context, ref session.Ref) (session.Lookup, error) {
	if s.cluster != nil {
		// Finding the server may take its time, and a moved slot a second try.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.lookTimeout)
		defer cancel()
	}
	keys := s.keys.check(ref)
	b, err := s.batcher(ctx, keys)
	if err != nil {
		return session.Lookup{}, unavailable(err, "look at session %s", ref.SessionID)
	}
	view, err := b.look(ctx, keys)
	if err != nil && s.cluster != nil && redirected(err) {
		// The slot is moving.
		view, err = s.lookEachWay(ctx, keys)
	}
	if err != nil {
		return session.Lookup{}, unavailable(err, "look at session %s", ref.SessionID)
	}
	return view, nil
}

// Lease implements [issuer.Store]. The lease names the lineage that it was taken
// in behind a colon.
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

// PutBack implements [issuer.Store]. It is also not done when fill is past its
// time already, or the server's lineage another than that of the lease.
func (s *Store) Backfill(ctx context.Context, lease string, ref session.Ref, fill issuer.Snapshot) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.lookTimeout)
	defer cancel()
	id, replid, _ := strings.Cut(lease, ":")
	written, _ := parseLineage(replid) // none: an entry that nobody believes
	done, err = putBack.Run(ctx, s.client,
		[]string{s.keys.lease(ref.Subject), s.keys.session(ref.Subject, ref.SessionID), s.keys.generation(ref.Subject)},
		id, replid, encodeEntry(fill.Entry, written), expiry(fill.Until), fill.SubjectGeneration, expiry(fill.SubjectUntil),
	).Bool()
	if err != nil {
		return false, unavailable(err, "put back session %s", ref.SessionID)
	}
	return done, nil
}

// Apply implements [issuer.Store]. It does not try again by itself.
func (s *Store) Apply(ctx context.Context, r issuer.Revocation) error {
	ctx, cancel := context.WithTimeout(ctx, s.applyTimeout)
	defer cancel()
	lease := s.keys.lease(r.Subject)
	var err error
	switch {
	case r.TokenID != "":
		err = revokeToken.Run(ctx, s.client,
			[]string{lease, s.keys.session(r.Subject, r.SessionID), s.keys.blacklist(r.Subject, r.TokenID)},
			expiry(r.Until)).Err()
	case r.Generation != 0:
		keys := []string{lease, s.keys.generation(r.Subject)}
		if r.Keep != "" {
			keys = append(keys, s.keys.session(r.Subject, r.Keep))
		}
		err = raiseGeneration.Run(ctx, s.client, keys, r.Generation, expiry(r.Until)).Err()
	case r.SessionID != "":
		err = endSession.Run(ctx, s.client,
			[]string{lease, s.keys.session(r.Subject, r.SessionID)},
			endedEntry, expiry(r.Until)).Err()
	default:
		return fmt.Errorf("redisstore: revocation %d of subject %s ends nothing", r.ID, r.Subject)
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

// Close closes the connections. The Store is of no use afterwards.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil {
		return fmt.Errorf("redisstore: close: %w", err)
	}
	return nil
}

// expiry is when what concerns tokens until until is forgotten, in Unix
// milliseconds. Redis takes only times after 1970: a key that expires in the
// past is gone as soon as it is written, and that is what is wanted.
func expiry(until time.Time) int64 {
	return max(until.Add(issuer.Margin).UnixMilli(), 1)
}

// unavailable wraps an error of Redis, or on the way to it.
func unavailable(err error, format string, args ...any) error {
	return fmt.Errorf("redisstore: %s: %w: %w", fmt.Sprintf(format, args...), session.ErrUnavailable, err)
}
