package limit

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	// shortly is how long the shared limiter has for an answer: somebody waits,
	// and perhaps keeps a slot for hashing busy.
	shortly = 150 * time.Millisecond
	// pause is how long it is left alone after it had none, so that not everybody
	// waits in vain.
	pause = time.Second
)

// Failover asks a limiter that all replicas share and, when that does not
// answer, this process's own: never nobody.
// What the own one allows is not known to the other replicas, so that an outage
// multiplies every budget by their number, once.
type Failover struct {
	shared, own Limiter
	resumes     atomic.Int64 // when the shared one is asked again, in Unix ms
}

// NewFailover returns a Failover.
func NewFailover(shared Limiter, own *Local) *Failover { return &Failover{shared: shared, own: own} }

// Charge takes of the shared limiter, or else of this process's own. The Decision
// says which; it is needed to give back.
func (f *Failover) Charge(ctx context.Context, now time.Time, keys []Key) Decision {
	if f.asks(now) {
		d, err := f.charge(ctx, now, keys)
		if err == nil {
			f.resumes.Store(0)
			return d
		}
		if ctx.Err() == nil { // or it is the caller who did not wait
			f.resumes.Store(now.Add(pause).UnixMilli())
		}
	}
	d, _ := f.own.Charge(ctx, now, keys) // a Local does not err
	d.Local = true
	return d
}

func (f *Failover) charge(ctx context.Context, now time.Time, keys []Key) (Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, shortly)
	defer cancel()
	return f.shared.Charge(ctx, now, keys)
}

// asks tells whether the shared limiter is to be asked. After a pause one caller
// goes ahead.
func (f *Failover) asks(now time.Time) bool {
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

// Refund gives back what the decision d took; also for a caller who has left.
func (f *Failover) Refund(ctx context.Context, now time.Time, d Decision, keys []Key) error {
	if d.Local {
		return f.own.Refund(ctx, now, keys)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shortly)
	defer cancel()
	return f.shared.Refund(ctx, now, keys)
}

// Clear forgets all takes of keys, here and there.
func (f *Failover) Clear(ctx context.Context, keys []Key) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shortly)
	defer cancel()
	return errors.Join(f.own.Clear(ctx, keys), f.shared.Clear(ctx, keys))
}
