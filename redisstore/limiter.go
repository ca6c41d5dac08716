package redisstore

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/identity/limit"
)

// Limiter is a [limit.Limiter] that all replicas on one Redis share. Each call takes one round trip
// and ends at its caller's deadline. A stored value that cannot be decoded counts as missing.
type Limiter struct {
	client redis.UniversalClient
	keys   keys
}

var _ limit.Limiter = (*Limiter)(nil)

// Limiter returns a rate limiter on the store's Redis. The limiter works until the store is closed.
func (s *Store) Limiter() *Limiter { return &Limiter{client: s.client, keys: s.keys} }

// Charge implements [limit.Limiter].
func (l *Limiter) Charge(ctx context.Context, now time.Time, keys []limit.Key) (limit.Decision, error) {
	found, err := chargeLimits.Run(ctx, l.client, l.names(keys), arguments(now, keys)...).Slice()
	if err != nil {
		return limit.Decision{}, unavailable(err, "charge the rate limits")
	}
	states := make([]limit.State, len(keys))
	for i, value := range found[:min(len(found), len(keys))] {
		text, _ := value.(string)
		states[i] = decodeState(keys[i].Rule, text)
	}
	// The script has already stored the new states. Decide is called only for the Decision.
	_, d := limit.Decide(now, keys, states)
	return d, nil
}

// Refund implements [limit.Limiter].
func (l *Limiter) Refund(ctx context.Context, now time.Time, keys []limit.Key) error {
	if err := refundLimits.Run(ctx, l.client, l.names(keys), arguments(now, keys)...).Err(); err != nil {
		return unavailable(err, "refund the rate limits")
	}
	return nil
}

// Clear implements [limit.Limiter].
func (l *Limiter) Clear(ctx context.Context, keys []limit.Key) error {
	if err := l.client.Del(ctx, l.names(keys)...).Err(); err != nil {
		return unavailable(err, "clear the rate limits")
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

// arguments returns ARGV for the scripts chargeLimits and refundLimits: the time, two constants of
// package limit, and Burst, Every and Backoff of each key's rule. Times are in milliseconds.
func arguments(now time.Time, keys []limit.Key) []any {
	args := []any{now.UnixMilli(), limit.FirstWait.Milliseconds(), limit.BackoffMemory.Milliseconds()}
	for _, k := range keys {
		args = append(args, k.Rule.Burst, k.Rule.Every.Milliseconds(), k.Rule.Backoff.Milliseconds())
	}
	return args
}

// decodeState decodes a stored rate limit. A bucket is stored as the number State.Full, a backoff
// counter as the numbers State.Count, State.Last and State.Before.
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
		if err != nil || len(word) > 15 { // the Lua scripts also ignore numbers of more than 15 digits
			return limit.State{}
		}
		*into[i] = int64(n)
	}
	return s
}
