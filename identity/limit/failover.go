package limit

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	// sharedTimeout bounds a call of the shared limiter. A client waits for it, and may hold a slot for
	// hashing meanwhile.
	sharedTimeout = 150 * time.Millisecond
	// pause is how long the shared limiter is left alone after it failed, so that not every client
	// waits for the timeout.
	pause = time.Second
)

// Failover asks the limiter that all replicas share. If that does not answer, it asks this process's
// own limiter. The other replicas do not see what the own limiter allows, so an outage of the shared
// limiter multiplies every limit by the number of replicas, once.
type Failover struct {
	shared, own Limiter
	resumes     atomic.Int64 // when the shared limiter is asked again, in Unix milliseconds; 0: now
}

// NewFailover returns a Failover.
func NewFailover(shared Limiter, own *Local) *Failover { return &Failover{shared: shared, own: own} }

// Charge charges the shared limiter, or else this process's own. Refund needs its Decision.
func (f *Failover) Charge(ctx context.Context, now time.Time, keys []Key) Decision {
	if f.asksShared(now) {
		bounded, cancel := context.WithTimeout(ctx, sharedTimeout)
		d, err := f.shared.Charge(bounded, now, keys)
		cancel()
		if err == nil {
			f.resumes.Store(0)
			return d
		}
		if ctx.Err() == nil { // otherwise the caller gave up, and the limiter may be well
			f.resumes.Store(now.Add(pause).UnixMilli())
		}
	}
	d, _ := f.own.Charge(ctx, now, keys) // a Local never fails
	d.Local = true
	return d
}

// asksShared reports whether to ask the shared limiter. After a pause, a single caller tries it first.
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

// Refund refunds what the decision d charged. It does so even if ctx has ended.
func (f *Failover) Refund(ctx context.Context, now time.Time, d Decision, keys []Key) error {
	if d.Local {
		return f.own.Refund(ctx, now, keys)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedTimeout)
	defer cancel()
	return f.shared.Refund(ctx, now, keys)
}

// Clear forgets all charges of the keys in both limiters. It does so even if ctx has ended.
func (f *Failover) Clear(ctx context.Context, keys []Key) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedTimeout)
	defer cancel()
	return errors.Join(f.own.Clear(ctx, keys), f.shared.Clear(ctx, keys))
}
