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
	budget  = limit.Rule{Name: "budget", Burst: 5, Every: time.Minute}
	backoff = limit.Rule{Name: "backoff", Burst: 10}
)

func TestLocal(t *testing.T) {
	t.Parallel()
	limittest.Run(t, func(*testing.T) []limit.Limiter {
		l := limit.NewLocal(1000)
		return []limit.Limiter{l, l, l}
	})
}

// TestLocalIsBounded: a flood of keys drives out what is forgotten, then itself;
// a name that is under attack stays.
func TestLocalIsBounded(t *testing.T) {
	l := limit.NewLocal(100)
	take := func(at time.Time, k limit.Key) limit.Decision {
		d, err := l.Charge(t.Context(), at, []limit.Key{k})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	victim, gone := backoff.Of("victim"), budget.Of("gone")
	for range 10 {
		take(noon, victim)
	}
	take(noon, gone)
	for i := range 1000 {
		take(noon.Add(time.Second), budget.Of(strconv.Itoa(i)))
		if n := l.Len(); n > 100 {
			t.Fatalf("%d keys are held", n)
		}
	}
	if d := take(noon, victim); d.Allowed {
		t.Error("a flood made it forget a name under attack")
	}
	if d := take(noon.Add(time.Second), budget.Of("999")); d.Tightest.Left != 3 {
		t.Errorf("it holds not even the newest of the flood: %+v", d)
	}
	if d := take(noon, gone); d.Tightest.Left != 4 {
		t.Errorf("what would be forgotten first outlived the flood: %+v", d)
	}
}

// TestLocalKeepsNothing: keys whose takes were all given back are not held.
func TestLocalKeepsNothing(t *testing.T) {
	l := limit.NewLocal(100)
	keys := []limit.Key{budget.Of("a"), backoff.Of("a")}
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
		t.Errorf("%d keys are held", n)
	}
}

func TestKeysAreShort(t *testing.T) {
	for _, text := range []string{"", "ada", strings.Repeat("a", 1<<20), "\x00\xff}{", "ада"} {
		if k := budget.Of(text, text); len(k.ID) != 22 {
			t.Errorf("Of(%.10q) = %q", text, k.ID)
		}
	}
}
