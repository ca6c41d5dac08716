package redisstore

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/identity/limit"
)

// Limiter is the [limit.Limiter] that all replicas on one Redis share. Each call
// is one round trip, bounded by its caller's deadline only. What cannot be read
// counts as not there.
type Limiter struct {
	client redis.UniversalClient
	keys   keys
}

var _ limit.Limiter = (*Limiter)(nil)

// Limiter returns the limiter on the store's Redis. It is of use until the store is closed.
func (s *Store) Limiter() *Limiter { return &Limiter{client: s.client, keys: s.keys} }

// Charge implements [limit.Limiter].
func (l *Limiter) Charge(ctx context.Context, now time.Time, keys []limit.Key) (limit.Decision, error) {
	found, err := takeLimits.Run(ctx, l.client, l.names(keys), arguments(now, keys)...).Slice()
	if err != nil {
		return limit.Decision{}, unavailable(err, "take of the limits")
	}
	states := make([]limit.State, len(keys))
	for i, held := range found[:min(len(found), len(keys))] {
		text, _ := held.(string)
		states[i] = decodeState(keys[i].Rule, text)
	}
	// The script decided by the same rules, and stored what follows.
	_, d := limit.Decide(now, keys, states)
	return d, nil
}

// Refund implements [limit.Limiter].
func (l *Limiter) Refund(ctx context.Context, now time.Time, keys []limit.Key) error {
	if err := giveBackLimits.Run(ctx, l.client, l.names(keys), arguments(now, keys)...).Err(); err != nil {
		return unavailable(err, "give back to the limits")
	}
	return nil
}

// Clear implements [limit.Limiter].
func (l *Limiter) Clear(ctx context.Context, keys []limit.Key) error {
	if err := l.client.Del(ctx, l.names(keys)...).Err(); err != nil {
		return unavailable(err, "clear limits")
	}
	return nil
}

func (l *Limiter) names(keys []limit.Key) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = l.keys.limit(k)
	}
	return names
}

// arguments are what the scripts need to know of the rules.
func arguments(now time.Time, keys []limit.Key) []any {
	args := []any{now.UnixMilli(), limit.FirstWait.Milliseconds(), limit.MostWait.Milliseconds(), limit.Memory.Milliseconds()}
	for _, k := range keys {
		args = append(args, k.Rule.Burst, k.Rule.Every.Milliseconds())
	}
	return args
}

// decodeState reads what the scripts keep: "full", or "count last before".
func decodeState(r limit.Rule, text string) (s limit.State) {
	into := []*int64{&s.Full}
	if r.Every == 0 {
		into = []*int64{&s.Count, &s.Last, &s.Before}
	}
	words := strings.Split(text, " ")
	if len(words) != len(into) {
		return limit.State{}
	}
	for i, word := range words {
		n, err := strconv.ParseUint(word, 10, 63)
		if err != nil || len(word) > 15 { // as the scripts
			return limit.State{}
		}
		*into[i] = int64(n)
	}
	return s
}
