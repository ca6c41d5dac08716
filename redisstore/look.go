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
		// A pipeline of the Cluster client itself would resend redirected commands in a second
		// round trip. A batch would then have neither one deadline nor one server.
		node, err := s.cluster.MasterForKey(ctx, keys[0])
		if err != nil {
			return nil, err
		}
		client = node
	}
	if b, ok := s.batchers.Load(client); ok {
		return b.(*batcher), nil
	}
	b := &batcher{timeout: s.lookTimeout, unbatched: s.unbatched, tracer: s.tracer}
	b.send = func(ctx context.Context, lookups []*lookup) error {
		err := s.send(ctx, client, s.epochs.Current(time.Now(), b.lastFailure()), lookups)
		if s.cluster == nil || err == nil {
			return err
		}
		s.cluster.ReloadState(ctx)
		if errors.Is(err, redis.ErrClosed) {
			s.batchers.Delete(client) // go-redis closed the client because its node left the Cluster
		}
		return err
	}
	stored, _ := s.batchers.LoadOrStore(client, b)
	return stored.(*batcher), nil
}

// send answers a batch of lookups in one round trip to client's server, with the commands
//
//	GETEX g1             does this server still accept writes?
//	MGET g1 s1 b1 g2 …   what does the server know about each session?
//	INFO replication     which server is it?
//
// GETEX without an option changes nothing, but Redis treats it as a write. A master that was
// demoted or cut off refuses writes, but would answer reads with old data for ever. GETEX comes
// first because go-redis drops a connection only if the first command of a pipeline fails. MGET
// reads all keys at one moment, so no revocation can happen between two reads. On a Cluster, every
// lookup has its own MGET, because all keys of an MGET must be in one slot. INFO comes last: if the
// server's data is replaced between the commands, INFO names another server than the entries, which
// then count as missing. The current epochs must be known before the commands are sent. Otherwise
// an entry could count that was written before its server took over. send returns the first error
// of any lookup.
func (s *Store) send(ctx context.Context, client redis.UniversalClient, current []session.Epoch, lookups []*lookup) error {
	pipe := client.Pipeline()
	guard := pipe.GetEx(ctx, lookups[0].keys[0], -1) // -1 sends no option; 0 would send PERSIST, which removes the expiry
	perGet := len(lookups)
	if s.cluster != nil {
		perGet = 1
	}
	gets := make([]*redis.StringSliceCmd, 0, len(lookups)/perGet)
	for i := 0; i < len(lookups); i += perGet {
		get := mget(ctx, lookups[i:i+perGet])
		_ = pipe.Process(ctx, get) // Process cannot fail, because the command is only sent by Exec
		gets = append(gets, get)
	}
	info := pipe.Info(ctx, "replication")
	s.roundTrips.Add(1)
	_, err := pipe.Exec(ctx)
	// The whole batch fails on a network error, or if Redis refuses GETEX or INFO.
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
			l.err = errors.New("redisstore: MGET returned a wrong number of values")
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

// mget returns one MGET command that reads the keys of all lookups.
func mget(ctx context.Context, lookups []*lookup) *redis.StringSliceCmd {
	args := make([]any, 1, 1+len(lookups)*len(lookups[0].keys))
	args[0] = "mget"
	for _, l := range lookups {
		for i := range l.keys {
			args = append(args, &l.keys[i]) // a pointer, because a string would be copied to the heap
		}
	}
	return redis.NewStringSliceCmd(ctx, args...)
}

// decodeLookup decodes the stored values of a generation, a session and a revoked token. A value is
// "" if its key is missing or does not hold a string.
func decodeLookup(values []string, epoch int64) session.Lookup {
	l := session.Lookup{TokenRevoked: values[2] != ""}
	// ParseUint accepts only digits, as the Lua scripts do for a generation.
	if n, err := strconv.ParseUint(values[0], 10, 63); err == nil {
		l.Generation, l.HasGeneration = int64(n), true
	}
	l.Entry, l.HasEntry = decodeEntry([]byte(values[1]), epoch)
	return l
}

// readError returns err, or nil if it says that a key is missing or does not hold a string.
func readError(err error) error {
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE ") {
		return nil
	}
	return err
}

// redirected reports whether err is a Cluster server's reply that another server holds the key or
// some of the keys.
func redirected(err error) bool {
	return redis.HasErrorPrefix(err, "MOVED ") || redis.HasErrorPrefix(err, "ASK ") || redis.HasErrorPrefix(err, "TRYAGAIN ")
}
