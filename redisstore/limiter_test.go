package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/limit/limittest"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
)

// TestLimiter_PassesContractTests runs the limiter's contract tests with three replicas on each
// kind of Redis.
func TestLimiter_PassesContractTests(t *testing.T) {
	t.Parallel()
	for name, redisURL := range map[string]func(testing.TB) string{
		"embedded": redisstoretest.URL,
		"real":     redisstoretest.RealURL,
		"cluster":  redisstoretest.ClusterURL,
		"sentinel": func(t testing.TB) string { return redisstoretest.StartSentinel(t, redisstoretest.StartServer(t)) },
		"least permissions": func(t testing.TB) string {
			url := redisstoretest.StartServer(t)
			admin := redisstoretest.Client(t, url)
			if err := admin.Do(t.Context(), words("ACL SETUSER ada on >secret ~test-* +scan "+leastACL)...).Err(); err != nil {
				t.Fatal(err)
			}
			return strings.Replace(url, "redis://", "redis://ada:secret@", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := redisURL(t)
			limittest.Run(t, func(t *testing.T) []limit.Limiter {
				prefix := redisstoretest.Prefix(t, url)
				var replicas []limit.Limiter
				for range 3 {
					replicas = append(replicas, redisstoretest.Open(t, url, redisstore.Options{Prefix: prefix}).Limiter())
				}
				return replicas
			})
		})
	}
}

var (
	slow    = limit.Rule{Name: "slow", Burst: 5, Every: time.Minute}
	backoff = limit.Rule{Name: "backoff", Burst: 3, Backoff: time.Hour}
)

// TestLimiter_ExpiresKeysOfFullBucketsAndOldBackoffs checks that the key of a rate limit expires
// when its bucket is full again or its backoff counter is too old to count. A refund of all charges
// or a call of Clear deletes the key at once.
func TestLimiter_ExpiresKeysOfFullBucketsAndOldBackoffs(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, v *testStore) {
		l := v.Limiter()
		now := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC) // in the future, because the limiter must not use Redis's own clock
		keys := []limit.Key{slow.Of("a"), backoff.Of("a")}
		names := []string{v.prefix + "r:{limits}:slow:" + keys[0].ID, v.prefix + "r:{limits}:backoff:" + keys[1].ID}
		want := func(ttls ...time.Duration) {
			t.Helper()
			for i, want := range ttls {
				got := v.client.PTTL(t.Context(), names[i]).Val()
				if got > want || got < want-10*time.Second {
					t.Errorf("%s expires in %v, want %v", names[i], got, want)
				}
			}
			if got := len(redisstoretest.Keys(t.Context(), t, v.client, v.prefix)); got != len(ttls) {
				t.Errorf("Redis has %d keys, want %d", got, len(ttls))
			}
		}
		step := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		charge := func() error { _, err := l.Charge(t.Context(), now, keys); return err }

		step(charge())
		want(time.Minute, limit.BackoffMemory)
		step(charge())
		want(2*time.Minute, limit.BackoffMemory)
		now = now.Add(30 * time.Second)
		step(charge())
		want(150*time.Second, limit.BackoffMemory)
		step(l.Refund(t.Context(), now, keys))
		want(90*time.Second, limit.BackoffMemory-30*time.Second)
		step(l.Refund(t.Context(), now, keys))
		step(l.Refund(t.Context(), now, keys))
		want()

		step(charge())
		step(l.Clear(t.Context(), keys))
		want()

		// A stored value in another format counts as missing.
		for _, foreign := range []string{"", "x", "-5", "1e3", "99999999999999999999", "3 x 0", "3 -1 0", "1 2", "9 9999999999999999 0", "1000000000000000"} {
			for _, name := range names {
				step(v.client.Set(t.Context(), name, foreign, 0).Err())
			}
			d, err := l.Charge(t.Context(), now, keys)
			if err != nil || !d.Allowed || d.Tightest.Left != 2 {
				t.Errorf("Charge over the value %q = %+v, %v", foreign, d, err)
			}
			want(time.Minute, limit.BackoffMemory)
			step(l.Clear(t.Context(), keys))
		}
	})
}

// TestLimiter_TakesOneRoundTripPerCall checks that a call takes one round trip for any number
// of rate limits, once Redis has stored the Lua scripts.
func TestLimiter_TakesOneRoundTripPerCall(t *testing.T) {
	t.Parallel()
	w, wired := wireTo(t, redisstoretest.RealURL(t))
	l := redisstoretest.Open(t, wired, redisstore.Options{Prefix: redisstoretest.Prefix(t, wired)}).Limiter()
	keys := []limit.Key{slow.Of("a"), slow.Of("b"), backoff.Of("a")}
	call := func() {
		if _, err := l.Charge(t.Context(), time.Now(), keys); err != nil {
			t.Error(err)
		}
		if err := l.Refund(t.Context(), time.Now(), keys); err != nil {
			t.Error(err)
		}
	}
	call() // the first call takes more round trips, because it connects and sends the Lua scripts
	if trips := w.tripsOf(call); trips != 2 {
		t.Errorf("two calls took %d round trips, want 2", trips)
	}
}

// TestLimiter_ChargeFailsIfContextIsCanceledOrRedisIsOutOfMemory checks that a charge returns
// ErrUnavailable. A Redis that is out of memory must refuse charges of rate limits, because
// revocations need the memory that is left.
func TestLimiter_ChargeFailsIfContextIsCanceledOrRedisIsOutOfMemory(t *testing.T) {
	t.Parallel()
	v := newTestStore(t, redisstoretest.StartServer(t))
	l, keys := v.Limiter(), []limit.Key{slow.Of("a"), backoff.Of("a")}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.Charge(ctx, time.Now(), keys)
	for what, err := range map[string]error{
		"Charge": err, "Refund": l.Refund(ctx, time.Now(), keys), "Clear": l.Clear(ctx, keys),
	} {
		if !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s with a canceled context = %v, want ErrUnavailable", what, err)
		}
	}

	v.command(t, "CONFIG SET maxmemory 1")
	if _, err := l.Charge(t.Context(), time.Now(), keys); !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("Charge without memory = %v, want ErrUnavailable for OOM", err)
	}
	if err := l.Clear(t.Context(), keys); err != nil {
		t.Errorf("Clear without memory = %v", err)
	}
	v.command(t, "CONFIG SET maxmemory 0")
	v.command(t, "SCRIPT FLUSH")
	if d, err := l.Charge(t.Context(), time.Now(), keys); err != nil || !d.Allowed {
		t.Errorf("Charge after SCRIPT FLUSH = %+v, %v, want it allowed", d, err)
	}
}
