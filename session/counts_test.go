package session

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
)

func TestCounts_CountEachCheckByItsResult(t *testing.T) {
	var c Counts
	for name, want := range map[string]struct {
		err     error
		counter *atomic.Uint64
	}{
		"active":      {nil, &c.Active},
		"revoked":     {fmt.Errorf("read: %w", ErrRevoked), &c.Revoked},
		"invalid":     {invalid("expired"), &c.Invalid},
		"unavailable": {fmt.Errorf("%w: %w", ErrUnavailable, context.DeadlineExceeded), &c.Unavailable},
		"canceled":    {fmt.Errorf("look: %w", context.Canceled), &c.Canceled},
	} {
		c.returned(want.err)
		if got := want.counter.Load(); got != 1 {
			t.Errorf("%s: counted %d times", name, got)
		}
	}
	var none *Counts
	none.returned(nil) // a Verifier without Counts
}
