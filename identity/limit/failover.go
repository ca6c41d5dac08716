package limit

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	// sharedTimeout bounds each call of the shared limiter. The client waits for the call, and may hold
	// a place in the queue for password hashes during that time.
	sharedTimeout = 150 * time.Millisecond
	// pause is how long the shared limiter is not called after a call failed. Otherwise every client
	// would wait for the timeout.
	pause = time.Second
)

// Failover asks the limiter that all replicas share. If the shared limiter does not answer, Failover
// asks this process's own limiter. Each replica then counts alone, so during an outage of the shared
// limiter, clients may use every limit once more at each replica.
type Failover struct {
	Rules       Rules // what callers charge by; NewFailover sets the defaults
	shared, own Limiter
	resumes     atomic.Int64 // when the pause after a failure ends, in Unix milliseconds; 0 if there is no pause
}

// NewFailover returns a Failover that asks own if shared does not answer.
func NewFailover(shared Limiter, own *Local) *Failover {
	return &Failover{Rules: Defaults(), shared: shared, own: own}
}

// Charge charges the shared limiter or, if that does not answer, this process's own. To undo
// the charge, pass the Decision to Refund.
func (f *Failover) Charge(ctx context.Context, now time.Time, keys []Key) Decision {
	if f.asksShared(now) {
		bounded, cancel := context.WithTimeout(ctx, sharedTimeout)
		d, err := f.shared.Charge(bounded, now, keys)
		cancel()
		if err == nil {
			f.resumes.Store(0)
			return d
		}
		if ctx.Err() == nil { // if the caller gave up, err does not mean that the shared limiter is down
			f.resumes.Store(now.Add(pause).UnixMilli())
		}
	}
	d, _ := f.own.Charge(ctx, now, keys) // a Local never fails
	d.Local = true
	return d
}

// asksShared reports whether to ask the shared limiter. At the end of a pause, it returns true to a
// single caller, whose call shows whether the shared limiter works again.
func (f *Failover) asksShared(now time.Time) bool {
	resumes := f.resumes.Load()
	switch {
	case resumes == 0:
		return true
	case now.UnixMilli() < resumes:
		return false
	default:
		return f.resumes.CompareAndSwap(resumes, now.Add(pause).UnixMilli())
	}
}

// Refund refunds the charge that returned d, even if ctx has ended.
func (f *Failover) Refund(ctx context.Context, now time.Time, d Decision, keys []Key) error {
	if d.Local {
		return f.own.Refund(ctx, now, keys)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedTimeout)
	defer cancel()
	return f.shared.Refund(ctx, now, keys)
}

// Clear forgets all charges of the keys in both limiters, even if ctx has ended.
func (f *Failover) Clear(ctx context.Context, keys []Key) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedTimeout)
	defer cancel()
	return errors.Join(f.own.Clear(ctx, keys), f.shared.Clear(ctx, keys))
}
