package redisstore

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/session"
)

// batcher returns the batcher of the server that holds these keys.
func (s *Store) batcher(ctx context.Context, keys [3]string) (*batcher, error) {
	client := s.client
	if s.cluster != nil {
		// The Cluster client's own pipeline would send redirected commands again in a second round
		// trip. A batch would then have neither one deadline nor one server.
		node, err := s.cluster.MasterForKey(ctx, keys[0])
		if err != nil {
			return nil, err
		}
		client = node
	}
	if b, ok := s.batchers.Load(client); ok {
		return b.(*batcher), nil
	}
	b := &batcher{timeout: s.lookTimeout, unbatched: s.unbatched}
	b.send = func(ctx context.Context, lookups []*lookup) error {
		err := s.send(ctx, client, s.epochs.Current(time.Now(), b.lastFailure()), lookups)
		if s.cluster == nil || err == nil {
			return err
		}
		s.cluster.ReloadState(ctx)
		if errors.Is(err, redis.ErrClosed) {
			s.batchers.Delete(client) // the node has left the Cluster
		}
		return err
	}
	stored, _ := s.batchers.LoadOrStore(client, b)
	return stored.(*batcher), nil
}

// send answers all lookups in one round trip to client's server, with the commands
//
//	GETEX g1             does this server still accept writes?
//	MGET g1 s1 b1 g2 …   what does it know?
//	INFO replication     which server is it?
//
// GETEX without an option changes nothing, but Redis treats it as a write. A master that was
// demoted or cut off refuses it, while it would answer reads from the past for ever. GETEX
// comes first because go-redis drops a connection only for the error of a pipeline's first
// command. MGET reads all keys at one moment, so no revocation can happen between them. On a
// Cluster the keys of an MGET must be in one slot, so there every lookup has its own MGET.
// INFO comes last: if the server's data is replaced between the commands, its name is newer
// than the entries, which are then not believed. The epochs must be known before the commands are
// sent. Otherwise an entry could be believed that a server which took over wrote before it did.
// send returns the first error of any lookup.
func (s *Store) send(ctx context.Context, client redis.UniversalClient, current []session.Epoch, lookups []*lookup) error {
	pipe := client.Pipeline()
	guard := pipe.GetEx(ctx, lookups[0].keys[0], -1) // an expiration of 0 would send PERSIST
	perGet := len(lookups)
	if s.cluster != nil {
		perGet = 1
	}
	gets := make([]*redis.StringSliceCmd, 0, len(lookups)/perGet)
	for i := 0; i < len(lookups); i += perGet {
		get := mget(ctx, lookups[i:i+perGet])
		_ = pipe.Process(ctx, get) // cannot fail before Exec
		gets = append(gets, get)
	}
	info := pipe.Info(ctx, "replication")
	_, err := pipe.Exec(ctx)
	// An error that is not a reply of Redis concerns the whole batch.
	if reply := redis.Error(nil); errors.As(err, &reply) {
		err = cmp.Or(readError(guard.Err()), info.Err())
	}
	epoch, first := s.epochOn(masterReplid(info.Val()), current), err
	for i, l := range lookups {
		get := gets[i/perGet]
		if l.err = err; err == nil {
			l.err = get.Err()
		}
		values, at := get.Val(), len(l.keys)*(i%perGet)
		if l.err == nil && len(values) != len(l.keys)*perGet {
			l.err = errors.New("redisstore: MGET returned a wrong number of values") // not a Redis
		}
		if l.err == nil {
			l.result = decodeLookup(values[at:at+len(l.keys)], epoch)
		} else if first == nil {
			first = l.err
		}
		l.done <- struct{}{}
	}
	return first
}

// mget returns one command that reads the keys of all lookups.
func mget(ctx context.Context, lookups []*lookup) *redis.StringSliceCmd {
	args := make([]any, 1, 1+len(lookups)*len(lookups[0].keys))
	args[0] = "mget"
	for _, l := range lookups {
		for i := range l.keys {
			args = append(args, &l.keys[i]) // a pointer needs no copy on the heap to become an any
		}
	}
	return redis.NewStringSliceCmd(ctx, args...)
}

// decodeLookup decodes the values of a generation, a session and a revoked token. MGET gives "" for
// a key that is missing or does not hold a string.
func decodeLookup(values []string, epoch int64) session.Lookup {
	l := session.Lookup{TokenRevoked: values[2] != ""}
	// Only digits are accepted, as in the scripts.
	if n, err := strconv.ParseUint(values[0], 10, 63); err == nil {
		l.Generation, l.HasGeneration = int64(n), true
	}
	l.Entry, l.HasEntry = decodeEntry([]byte(values[1]), epoch)
	return l
}

// lookInMovingSlot reads one key after another while their slot moves between two servers of a
// Cluster. The order is safe although the reads happen at different moments: see [session.Store].
// The entry is believed only on the server that it was written to, which the slot is leaving. After
// the move it counts as unknown.
func (s *Store) lookInMovingSlot(ctx context.Context, keys [3]string) (session.Lookup, error) {
	node, err := s.cluster.MasterForKey(ctx, keys[0])
	if err != nil {
		return session.Lookup{}, err
	}
	current := s.epochs.Current(time.Now(), time.Time{})
	pipe := node.Pipeline()
	generation, entry, info := pipe.GetEx(ctx, keys[0], -1), pipe.Get(ctx, keys[1]), pipe.Info(ctx, "replication")
	_, _ = pipe.Exec(ctx) // each command has its own error
	if err := info.Err(); err != nil {
		return session.Lookup{}, err
	}
	values := make([]string, len(keys))
	for i, reply := range []*redis.StringCmd{generation, entry, s.client.Get(ctx, keys[2])} {
		value, err := reply.Result()
		if err := readError(err); err != nil && !redirected(err) {
			return session.Lookup{}, err
		}
		values[i] = value
	}
	return decodeLookup(values, s.epochOn(masterReplid(info.Val()), current)), nil
}

// readError returns err, or nil if it says that a key is missing or does not hold a string.
func readError(err error) error {
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE ") {
		return nil
	}
	return err
}

// redirected reports whether a server of a Cluster answered that another server
// holds the key or some of the keys.
func redirected(err error) bool {
	return redis.HasErrorPrefix(err, "MOVED ") || redis.HasErrorPrefix(err, "ASK ") || redis.HasErrorPrefix(err, "TRYAGAIN ")
}
