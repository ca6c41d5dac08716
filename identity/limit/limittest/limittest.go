// Package limittest has contract tests for implementations of [limit.Limiter].
package limittest

import (
	"crypto/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sessiond/sessiond/identity/limit"
)

// Run runs every contract test on limiters that share their counters, like the limiters of several
// replicas. open returns the limiters and cleans them up.
func Run(t *testing.T, open func(t *testing.T) []limit.Limiter) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			replicas := open(t)
			test.run(&suite{T: t, Limiter: replicas[0], replicas: replicas, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)})
		})
	}
}

type test struct {
	name string // states the behavior that every limiter must have
	run  func(s *suite)
}

// suite is one running contract test, with limiters that share their counters and the time that the
// test passes to them.
type suite struct {
	*testing.T
	limit.Limiter
	replicas []limit.Limiter
	now      time.Time
}

// The counters of these rules refill slowly. Redis expires keys by the real clock, and no key may
// expire during a test.
var (
	bucket  = limit.Rule{Name: "bucket", Burst: 5, Every: time.Minute}
	backoff = limit.Rule{Name: "backoff", Burst: 10, Backoff: time.Hour}
)

// fresh returns a rate limit key of the rule r that no other test uses.
func fresh(r limit.Rule) limit.Key { return r.Of(rand.Text()) }

func (s *suite) charge(keys ...limit.Key) limit.Decision {
	s.Helper()
	d, err := s.Charge(s.Context(), s.now, keys)
	if err != nil {
		s.Fatalf("Charge: %v", err)
	}
	if d.Allowed == (d.RetryAfter > 0) {
		s.Errorf("%+v: want RetryAfter in a refusal, and only there", d)
	}
	return d
}

func (s *suite) refund(keys ...limit.Key) {
	s.Helper()
	if err := s.Refund(s.Context(), s.now, keys); err != nil {
		s.Fatalf("Refund: %v", err)
	}
}

// wantAllowed charges the keys n times. It fails the test if a charge is refused.
func (s *suite) wantAllowed(n int, keys ...limit.Key) {
	s.Helper()
	for i := range n {
		if d := s.charge(keys...); !d.Allowed {
			s.Fatalf("charge %d of %d: %+v", i+1, n, d)
		}
	}
}

// wantRefused charges the keys once. It fails the test unless the charge is refused and the client has
// to wait for exactly the given duration.
func (s *suite) wantRefused(retry time.Duration, keys ...limit.Key) {
	s.Helper()
	if d := s.charge(keys...); d.Allowed || d.RetryAfter != retry {
		s.Fatalf("Charge = %+v, want refused for %v", d, retry)
	}
}

// exhaust charges a backoff counter until the counter refuses charges for at least the duration
// wait.
func (s *suite) exhaust(k limit.Key, wait time.Duration) {
	s.Helper()
	for range 100 {
		if d := s.charge(k); d.RetryAfter >= wait {
			return
		} else if !d.Allowed {
			s.now = s.now.Add(d.RetryAfter)
		}
	}
	s.Fatalf("after 100 charges, the wait is still below %v", wait)
}

var tests = []test{
	{"a bucket allows Burst charges at once, then one charge for each interval of length Every", func(s *suite) {
		k := fresh(bucket)
		s.wantAllowed(5, k)
		s.wantRefused(time.Minute, k)
		s.now = s.now.Add(time.Minute - time.Millisecond)
		s.wantRefused(time.Millisecond, k)
		s.now = s.now.Add(time.Millisecond)
		s.wantAllowed(1, k)
		s.wantRefused(time.Minute, k)
		s.now = s.now.Add(3*time.Minute + time.Second)
		s.wantAllowed(3, k)
		s.wantRefused(59*time.Second, k)
	}},
	{"a bucket without charges for ten days allows no more than Burst charges", func(s *suite) {
		k := fresh(bucket)
		s.wantAllowed(5, k)
		s.now = s.now.Add(240 * time.Hour)
		s.wantAllowed(5, k)
		s.wantRefused(time.Minute, k)
	}},
	{"if all replicas charge one key concurrently, exactly Burst charges are allowed", func(s *suite) {
		const callers, tries, burst = 8, 20, 50
		for _, k := range []limit.Key{
			fresh(limit.Rule{Name: "bucket", Burst: burst, Every: time.Hour}), fresh(limit.Rule{Name: "backoff", Burst: burst, Backoff: time.Hour}),
		} {
			var allowed atomic.Int32
			var wg sync.WaitGroup
			for _, l := range s.replicas {
				for range callers {
					wg.Go(func() {
						for range tries {
							d, err := l.Charge(s.Context(), s.now, []limit.Key{k})
							if err != nil {
								s.Errorf("Charge: %v", err)
							}
							if d.Allowed {
								allowed.Add(1)
							}
						}
					})
				}
			}
			wg.Wait()
			if allowed.Load() != burst {
				s.Errorf("%s: %d of %d allowed, want %d", k.Rule.Name, allowed.Load(), len(s.replicas)*callers*tries, burst)
			}
		}
	}},
	{"if one of several keys is at its limit, no key is charged", func(s *suite) {
		mine, theirs, name := fresh(bucket), fresh(bucket), fresh(backoff)
		s.wantAllowed(5, mine)
		for range 20 {
			s.wantRefused(time.Minute, theirs, name, mine)
			s.wantRefused(time.Minute, mine, name, theirs)
		}
		s.wantAllowed(5, theirs)
		s.wantAllowed(10, name)
		s.wantRefused(time.Second, name)
	}},
	{"if several keys are at their limits, the longest wait is returned", func(s *suite) {
		one, other := fresh(bucket), fresh(backoff)
		s.wantAllowed(5, one)
		s.wantAllowed(10, other)
		s.wantRefused(time.Minute, one, other)
		s.wantRefused(time.Minute, other, one)
	}},
	{"a backoff counter allows its burst, then doubles the wait from one second up to an hour", func(s *suite) {
		k := fresh(backoff)
		s.wantAllowed(10, k)
		for _, seconds := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600} {
			wait := time.Duration(seconds) * time.Second
			s.wantRefused(wait, k)
			s.now = s.now.Add(wait - time.Millisecond)
			s.wantRefused(time.Millisecond, k) // the earlier refusal must not extend the wait
			s.now = s.now.Add(time.Millisecond)
			s.wantAllowed(1, k)
		}
	}},
	{"a backoff counter allows 44 charges on the first day and 24 on each day after", func(s *suite) {
		k := fresh(backoff)
		begin := s.now
		for day, want := range []int{44, 24, 24} {
			got := 0
			for s.now.Before(begin.Add(time.Duration(day+1) * 24 * time.Hour)) {
				if d := s.charge(k); d.Allowed {
					got++
				} else {
					s.now = s.now.Add(d.RetryAfter)
				}
			}
			if got != want {
				s.Errorf("day %d: %d charges, want %d", day+1, got, want)
			}
		}
	}},
	{"a backoff counter remembers its charges until a day after its last charge", func(s *suite) {
		long, short := fresh(backoff), fresh(backoff)
		s.wantAllowed(10, long)
		s.wantAllowed(10, short)
		s.now = s.now.Add(limit.BackoffMemory - time.Second)
		s.wantAllowed(1, long)
		s.wantRefused(2*time.Second, long)
		s.now = s.now.Add(time.Second)
		s.wantAllowed(10, short)
		s.wantRefused(time.Second, short)
	}},
	{"a refund undoes a charge", func(s *suite) {
		k := fresh(bucket)
		s.wantAllowed(4, k)
		for range 10 {
			s.wantAllowed(1, k)
			s.refund(k)
		}
		s.wantAllowed(1, k)
		s.wantRefused(time.Minute, k)

		name := fresh(backoff)
		s.exhaust(name, time.Hour)
		before := s.charge(name).RetryAfter
		s.now = s.now.Add(before)
		for range 10 {
			s.wantAllowed(1, name)
			s.refund(name)
		}
		s.wantAllowed(1, name)
		s.wantRefused(time.Hour, name)
	}},
	{"a refund without a charge does nothing", func(s *suite) {
		for _, k := range []limit.Key{fresh(bucket), fresh(backoff)} {
			s.refund(k, fresh(bucket))
			s.wantAllowed(1, k)
			s.refund(k)
			s.refund(k)
			s.wantAllowed(k.Rule.Burst, k)
			if d := s.charge(k); d.Allowed {
				s.Errorf("rule %s: Charge allowed more than the burst: %+v", k.Rule.Name, d)
			}
		}
	}},
	{"concurrent refunds undo exactly the concurrent charges", func(s *suite) {
		k, name := fresh(limit.Rule{Name: "bucket", Burst: 40, Every: time.Hour}), fresh(limit.Rule{Name: "backoff", Burst: 40, Backoff: time.Hour})
		var wg sync.WaitGroup
		for _, l := range s.replicas {
			for range 8 {
				wg.Go(func() {
					for range 10 {
						d, err := l.Charge(s.Context(), s.now, []limit.Key{k, name})
						if err != nil || !d.Allowed {
							s.Errorf("Charge = %+v, %v", d, err)
						}
						if err := l.Refund(s.Context(), s.now, []limit.Key{name, k}); err != nil {
							s.Errorf("Refund: %v", err)
						}
					}
				})
			}
		}
		wg.Wait()
		s.wantAllowed(40, k, name)
	}},
	{"a cleared key allows the whole burst again", func(s *suite) {
		k, name, other := fresh(bucket), fresh(backoff), fresh(bucket)
		s.wantAllowed(5, k)
		s.wantAllowed(5, other)
		s.exhaust(name, time.Minute)
		if err := s.Clear(s.Context(), []limit.Key{k, name, fresh(backoff)}); err != nil {
			s.Fatal(err)
		}
		s.wantAllowed(5, k)
		s.wantAllowed(10, name)
		if d := s.charge(fresh(bucket)); !d.Allowed {
			s.Errorf("%+v", d)
		}
	}},
	{"keys with different rules or different texts are counted separately", func(s *suite) {
		id := rand.Text()
		for _, k := range []limit.Key{
			bucket.Of(id, "bc"), bucket.Of(id+"b", "c"), bucket.Of(id, "BC"), bucket.Of(id + "bc"), bucket.Of(id, "bc", ""),
			limit.Rule{Name: "bucket-2", Burst: 5, Every: time.Minute}.Of(id, "bc"), backoff.Of(id, "bc"),
		} {
			s.wantAllowed(k.Rule.Burst, k)
		}
	}},
	{"a replica whose clock is slightly behind allows neither fewer nor more charges", func(s *suite) {
		k, name := fresh(bucket), fresh(backoff)
		s.wantAllowed(1, k, name)
		s.now = s.now.Add(-20 * time.Millisecond)
		s.wantAllowed(3, k, name)
		s.wantAllowed(6, name)
		s.wantRefused(20*time.Millisecond, k)
		s.wantRefused(time.Second+20*time.Millisecond, name)
		s.now = s.now.Add(20 * time.Millisecond)
		s.wantAllowed(1, k)
		s.wantRefused(time.Minute, k)
	}},
	{"Charge returns the rule that allows the fewest further charges, and their number", func(s *suite) {
		wide, pair := fresh(limit.Rule{Name: "wide", Burst: 100, Every: 10 * time.Second}), fresh(bucket)
		shared := fresh(limit.Rule{Name: "shared", Burst: 2, Backoff: time.Hour, Shared: true})
		want := func(got limit.Decision, q limit.Quota) {
			s.Helper()
			if got.Tightest != q {
				s.Errorf("%+v, want %+v", got.Tightest, q)
			}
		}
		want(s.charge(wide), limit.Quota{Rule: "wide", Limit: 100, Window: 1000 * time.Second, Left: 99, Reset: 10 * time.Second})
		want(s.charge(wide, pair, shared), limit.Quota{Rule: "bucket", Limit: 5, Window: 5 * time.Minute, Left: 4, Reset: time.Minute})
		s.wantAllowed(3, pair)
		want(s.charge(pair, wide), limit.Quota{Rule: "bucket", Limit: 5, Window: 5 * time.Minute, Left: 0, Reset: time.Minute})
		want(s.charge(pair, wide), limit.Quota{Rule: "bucket", Limit: 5, Window: 5 * time.Minute, Left: 0, Reset: time.Minute})

		// The decision reveals how many charges of a shared rule are left only if that rule
		// refuses.
		want(s.charge(shared), limit.Quota{})
		want(s.charge(shared, wide), limit.Quota{Rule: "shared", Limit: 2, Window: limit.BackoffMemory, Left: 0, Reset: time.Second})

		name := fresh(backoff)
		want(s.charge(name), limit.Quota{Rule: "backoff", Limit: 10, Window: limit.BackoffMemory, Left: 9, Reset: limit.BackoffMemory})
		s.wantAllowed(8, name)
		want(s.charge(name), limit.Quota{Rule: "backoff", Limit: 10, Window: limit.BackoffMemory, Left: 0, Reset: time.Second})
	}},
	{"a limiter makes the same decisions as limit.Local for any sequence of calls", func(s *suite) {
		rapid.Check(s.T, func(t *rapid.T) {
			model := limit.NewLocal(1000)
			all := []limit.Key{fresh(bucket), fresh(backoff), fresh(limit.Rule{Name: "small", Burst: 1, Every: time.Hour})}
			now := s.now
			for range rapid.IntRange(1, 40).Draw(t, "steps") {
				keys := rapid.Permutation(all).Draw(t, "keys")[:rapid.IntRange(1, len(all)).Draw(t, "number")]
				switch rapid.IntRange(0, 5).Draw(t, "what") {
				case 0:
					if err := s.Refund(s.Context(), now, keys); err != nil {
						t.Fatal(err)
					}
					_ = model.Refund(s.Context(), now, keys)
				case 1:
					now = now.Add(rapid.SampledFrom([]time.Duration{
						-time.Second, time.Second, 30 * time.Second, 10 * time.Minute, 2 * time.Hour, 25 * time.Hour,
					}).Draw(t, "pass"))
				default:
					got, err := s.Charge(s.Context(), now, keys)
					if err != nil {
						t.Fatal(err)
					}
					if want, _ := model.Charge(s.Context(), now, keys); got != want {
						t.Fatalf("Charge = %+v, Local says %+v", got, want)
					}
				}
			}
		})
	}},
}
