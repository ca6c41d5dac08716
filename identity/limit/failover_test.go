package limit_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity/limit"
)

// flaky is a shared limiter that a test can make fail or hang.
type flaky struct {
	*limit.Local
	down  bool
	hangs bool
	asked int // how many times Charge was called
}

var errDown = errors.New("the shared limiter is down")

func (f *flaky) Charge(ctx context.Context, now time.Time, keys []limit.Key) (limit.Decision, error) {
	f.asked++
	if f.hangs {
		<-ctx.Done()
		return limit.Decision{}, ctx.Err()
	}
	if f.down {
		return limit.Decision{}, errDown
	}
	return f.Local.Charge(ctx, now, keys)
}

func (f *flaky) Refund(ctx context.Context, now time.Time, keys []limit.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.Local.Refund(ctx, now, keys)
}

func newFailover() (*limit.Failover, *flaky) {
	shared := &flaky{Local: limit.NewLocal(100)}
	return limit.NewFailover(shared, limit.NewLocal(100)), shared
}

func TestFailover_UsesLocalLimiterWhileSharedLimiterIsDown(t *testing.T) {
	f, shared := newFailover()
	keys := []limit.Key{bucket.Of("a")}
	charge := func(at time.Time, allowed, local bool) {
		t.Helper()
		if d := f.Charge(t.Context(), at, keys); d.Allowed != allowed || d.Local != local {
			t.Errorf("Charge = %+v, want allowed %t, local %t", d, allowed, local)
		}
	}
	for range 5 {
		charge(noon, true, false)
	}
	charge(noon, false, false)

	shared.down = true
	for range 5 {
		charge(noon, true, true) // the process's own limiter was not charged before
	}
	charge(noon, false, true)
	if shared.asked != 7 {
		t.Errorf("within a second of the failure, the shared limiter was asked %d times, want once", shared.asked-6)
	}
	charge(noon.Add(time.Second), false, true)
	charge(noon.Add(time.Second), false, true)
	if shared.asked != 8 {
		t.Errorf("a second later, the shared limiter was asked %d times, want once", shared.asked-7)
	}

	shared.down = false
	charge(noon.Add(2*time.Second), false, false)
	charge(noon.Add(2*time.Second), false, false)
}

func TestFailover_RefundsWhereItChargedAndClearsSharedAndLocalLimits(t *testing.T) {
	f, shared := newFailover()
	keys := []limit.Key{bucket.Of("a")}
	here := f.Charge(t.Context(), noon, keys)
	shared.down = true
	f.Charge(t.Context(), noon, keys)
	own := f.Charge(t.Context(), noon, keys)
	if !own.Local || own.Tightest.Left != 3 {
		t.Fatalf("second charge while the shared limiter is down: %+v, want Local and 3 left", own)
	}
	left, cancel := context.WithCancel(t.Context())
	cancel()
	for _, d := range []limit.Decision{here, own} {
		if err := f.Refund(left, noon, d, keys); err != nil {
			t.Error(err)
		}
	}
	if n := shared.Len(); n != 0 {
		t.Errorf("after the refund, the shared limiter holds %d keys, want 0", n)
	}
	if d := f.Charge(t.Context(), noon, keys); !d.Local || d.Tightest.Left != 3 {
		t.Errorf("%+v, want 3 left: one of two charges was refunded", d)
	}

	shared.down = false
	later := noon.Add(2 * time.Second)
	f.Charge(t.Context(), later, keys)
	if err := f.Clear(left, keys); err != nil {
		t.Error(err)
	}
	if d := f.Charge(t.Context(), later, keys); d.Local || d.Tightest.Left != 4 {
		t.Errorf("shared limiter after Clear: %+v, want 4 left", d)
	}
	shared.down = true
	if d := f.Charge(t.Context(), later, keys); !d.Local || d.Tightest.Left != 4 {
		t.Errorf("local limiter after Clear: %+v, want 4 left", d)
	}
}

// A canceled call does not mean that the shared limiter is down. So the next call asks it again.
func TestFailover_WaitsOnlyOnceForSharedLimiterThatHangs(t *testing.T) {
	f, shared := newFailover()
	keys := []limit.Key{bucket.Of("a")}
	shared.hangs = true
	left, cancel := context.WithCancel(t.Context())
	cancel()
	if d := f.Charge(left, noon, keys); !d.Local {
		t.Errorf("for a caller that gave up: %+v, want Local", d)
	}
	begin := time.Now()
	if d := f.Charge(t.Context(), noon, keys); !d.Allowed || !d.Local {
		t.Errorf("while the shared limiter hangs: %+v, want allowed and Local", d)
	}
	if took := time.Since(begin); took < 100*time.Millisecond || took > time.Minute {
		t.Errorf("waited for %v, want about 150ms", took)
	}
	f.Charge(t.Context(), noon, keys) // this charge must not ask the shared limiter
	if shared.asked != 2 {
		t.Errorf("the shared limiter was asked %d times, want 2", shared.asked)
	}
}
