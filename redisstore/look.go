package redisstore

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/session"
)

// batchers holds a batcher for each server that is asked.
type batchers struct {
	unbatched bool
	byClient  sync.Map // redis.UniversalClient to *batcher
}

// batcher returns the batcher to the server that holds these keys.
func (s *Store) batcher(ctx context.Context, keys [3]string) (*batcher, error) {
	client := s.client
	if s.cluster != nil {
		// Not a pipeline of the cluster client: it sends again, in a second
		// round, what was redirected in the first, and then a flight has no one
		// deadline and no one server.
		node, err := s.cluster.MasterForKey(ctx, keys[0])
		if err != nil {
			return nil, err
		}
		client = node
	}
	if b, ok := s.batchers.byClient.Load(client); ok {
		return b.(*batcher), nil
	}
	b := &batcher{timeout: s.lookTimeout, unbatched: s.batchers.unbatched, send: func(ctx context.Context, calls []*call) {
		err := send(ctx, client, s.cluster != nil, calls)
		if s.cluster == nil || err == nil {
			return
		}
		s.cluster.ReloadState(ctx)
		if errors.Is(err, redis.ErrClosed) {
			s.batchers.byClient.Delete(client) // a node that has left; its client is not used again
		}
	}}
	held, _ := s.batchers.byClient.LoadOrStore(client, b)
	return held.(*batcher), nil
}

// send answers all calls in one round trip to client's server, by
//
//	GETEX g1             does this server still take writes?
//	MGET g1 s1 b1 g2 …   what does it know?
//	INFO replication     of which lineage is it?
//
// GETEX without an option reads and changes nothing, and yet is a write to
// Redis: a master that was demoted or is cut off refuses it, where it would
// answer a read from the past for ever. It stands first, because go-redis
// gives up a connection for the error of a pipeline's first command alone.
//
// MGET is one moment: no revocation falls between what it reads. On a Cluster
// its keys must be of one slot, so that each call has an MGET of its own there. INFO
// stands last: had the data been exchanged in between, the lineage would be a later one than
// that of what was read. The error is the first of any call.
func send(ctx context.Context, client redis.UniversalClient, isCluster bool, calls []*call) error {
	pipe := client.Pipeline()
	guard := pipe.GetEx(ctx, calls[0].keys[0], -1) // 0 would send PERSIST
	each := len(calls)
	if isCluster {
		each = 1
	}
	gets := make([]*redis.StringSliceCmd, 0, len(calls)/each)
	for i := 0; i < len(calls); i += each {
		get := mget(ctx, calls[i:i+each])
		_ = pipe.Process(ctx, get) // cannot fail before Exec
		gets = append(gets, get)
	}
	info := pipe.Info(ctx, "replication")
	_, err := pipe.Exec(ctx)
	// An error that is no server's answer is the flight's.
	if answered := redis.Error(nil); errors.As(err, &answered) {
		err = guard.Err()
		if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE ") {
			err = nil
		}
		err = cmp.Or(err, info.Err())
	}
	var here lineage
	if err == nil {
		here, err = parseInfo(info.Val())
	}
	first := err
	for i, c := range calls {
		get := gets[i/each]
		if c.err = err; err == nil {
			c.err = get.Err()
		}
		values, at := get.Val(), len(c.keys)*(i%each)
		if c.err == nil && len(values) != len(c.keys)*each {
			c.err = errShort
		}
		if c.err == nil {
			c.view = view(values[at:at+len(c.keys)], here)
		} else if first == nil {
			first = c.err
		}
		c.done <- struct{}{}
	}
	return first
}

// errShort: whatever answered is no Redis, and no reason to panic.
var errShort = errors.New("redisstore: MGET answered for another number of keys")

// mget asks for the keys of all calls at once.
func mget(ctx context.Context, calls []*call) *redis.StringSliceCmd {
	args := make([]any, 1, 1+len(calls)*len(calls[0].keys))
	args[0] = "mget"
	for _, c := range calls {
		for i := range c.keys {
			args = append(args, &c.keys[i]) // a pointer goes into an any without a copy on the heap
		}
	}
	return redis.NewStringSliceCmd(ctx, args...)
}

// view reads what MGET said of a generation, a session and the blacklist. What is
// missing is "", and so is what is no string.
func view(values []string, here lineage) session.Lookup {
	v := session.Lookup{TokenRevoked: values[2] != ""}
	// Digits and nothing else, as in the scripts.
	if n, err := strconv.ParseUint(values[0], 10, 63); err == nil {
		v.Generation, v.HasGeneration = int64(n), true
	}
	v.Entry, v.HasEntry = decodeEntry([]byte(values[1]), here)
	return v
}

// lookEachWay asks one key after another while their slot moves to another server of
// a Cluster, in an order that is safe without being one moment: see [issuer.Store].
// The entry is believed where it was written, which is the server that it is moving
// from; once moved it is not known.
func (s *Store) lookEachWay(ctx context.Context, keys [3]string) (session.Lookup, error) {
	node, err := s.cluster.MasterForKey(ctx, keys[0])
	if err != nil {
		return session.Lookup{}, err
	}
	pipe := node.Pipeline()
	generation, entry, info := pipe.GetEx(ctx, keys[0], -1), pipe.Get(ctx, keys[1]), pipe.Info(ctx, "replication")
	_, _ = pipe.Exec(ctx) // each tells its own error
	here, err := parseInfo(info.Val())
	if err != nil {
		return session.Lookup{}, cmp.Or(info.Err(), err)
	}
	values := make([]string, len(keys))
	for i, answer := range []*redis.StringCmd{generation, entry, s.client.Get(ctx, keys[2])} {
		value, err := answer.Result()
		if err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "WRONGTYPE ") && !redirected(err) {
			return session.Lookup{}, err
		}
		values[i] = value
	}
	return view(values, here), nil
}

// redirected tells whether a server of a Cluster answered that another one
// holds the key, or some of the keys.
func redirected(err error) bool {
	return redis.HasErrorPrefix(err, "MOVED ") || redis.HasErrorPrefix(err, "ASK ") || redis.HasErrorPrefix(err, "TRYAGAIN ")
}
