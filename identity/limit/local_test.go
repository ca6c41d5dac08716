package limit_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/limit/limittest"
)

var (
	noon    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	bucket  = limit.Rule{Name: "bucket", Burst: 5, Every: time.Minute}
	backoff = limit.Rule{Name: "backoff", Burst: 10, Backoff: time.Hour}
)

func TestLocal_PassesContractTestsOfLimiter(t *testing.T) {
	t.Parallel()
	limittest.Run(t, func(*testing.T) []limit.Limiter {
		l := limit.NewLocal(1000)
		return []limit.Limiter{l, l, l}
	})
}

func TestLocal_FloodOfNewKeysReplacesOnlyKeysThatExpireSooner(t *testing.T) {
	l := limit.NewLocal(100)
	charge := func(at time.Time, k limit.Key) limit.Decision {
		d, err := l.Charge(t.Context(), at, []limit.Key{k})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	victim, expiring := backoff.Of("victim"), bucket.Of("expiring")
	for range 10 {
		charge(noon, victim)
	}
	charge(noon, expiring)
	for i := range 1000 {
		charge(noon.Add(time.Second), bucket.Of(strconv.Itoa(i)))
		if n := l.Len(); n > 100 {
			t.Fatalf("%d keys are held, want at most 100", n)
		}
	}
	if d := charge(noon, victim); d.Allowed {
		t.Error("a flood of keys replaced the backoff counter of an account under attack")
	}
	if d := charge(noon.Add(time.Second), bucket.Of("999")); d.Tightest.Left != 3 {
		t.Errorf("the newest key of the flood was replaced: %+v", d)
	}
	if d := charge(noon, expiring); d.Tightest.Left != 4 {
		t.Errorf("the flood did not replace the key that expires first: %+v", d)
	}
}

func TestLocal_ForgetsKeyWhenAllChargesAreRefunded(t *testing.T) {
	l := limit.NewLocal(100)
	keys := []limit.Key{bucket.Of("a"), backoff.Of("a")}
	for range 3 {
		if _, err := l.Charge(t.Context(), noon, keys); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := l.Refund(t.Context(), noon, keys); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.Len(); n != 0 {
		t.Errorf("%d keys are held, want 0", n)
	}
}

func TestKey_IDHas22CharactersForAnyText(t *testing.T) {
	for _, text := range []string{"", "ada", strings.Repeat("a", 1<<20), "\x00\xff}{", "ада"} {
		if k := bucket.Of(text, text); len(k.ID) != 22 {
			t.Errorf("Of(%.10q).ID = %q, want 22 characters", text, k.ID)
		}
	}
}
