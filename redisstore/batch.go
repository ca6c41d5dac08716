package redisstore

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/sessiond/sessiond/session"
)

// batcher sends lookups of sessions that arrive at the same time to Redis in one round trip, a
// batch. A busy replica and its Redis then need one system call for many lookups.
//
// At low load there are no batches. If at most one other lookup is in progress, the caller's
// goroutine sends its lookup directly. From the third on, lookups queue while a batch is in
// progress, and are sent together when that batch returns. At high load the batcher yields the CPU
// once before it sends a batch, so that goroutines that are about to look up a session can join the
// batch. Yielding takes no time if no goroutine is ready. A long queue is split into two batches,
// so that Redis answers one batch while this process handles the other.
type batcher struct {
	// send answers all lookups in one round trip. Its context ends after timeout.
	send      func(ctx context.Context, lookups []*lookup) error
	timeout   time.Duration
	unbatched bool         // every lookup is sent directly; see Options.Unbatched
	tracer    trace.Tracer // nil: batches have no spans

	mu       sync.Mutex
	queue    []*lookup
	direct   int  // number of lookups in progress that were sent directly
	batches  int  // number of batches in progress
	late     int  // number of batches that have been in progress for longer than lateAfter
	yielding bool // a goroutine has yielded the CPU; after that it sends the queued lookups
	busy     bool // the load is high, because a recent batch had several lookups

	pool sync.Pool // of *lookup

	answered, failed atomic.Int64 // when the server last answered and failed, as time since started
}

var started = time.Now()

// note remembers when the server answered or failed. A failure counts only if the server has
// answered nothing for a while: on an overloaded machine single lookups take too long.
func (b *batcher) note(err error) {
	const gap = 250 * time.Millisecond
	now := int64(time.Since(started))
	if err == nil {
		b.answered.Store(now)
	} else if now-b.answered.Load() > int64(gap) && !redirected(err) {
		b.failed.Store(now)
	}
}

// lastFailure returns when the server failed last, or the zero time.
func (b *batcher) lastFailure() time.Time {
	if failed := b.failed.Load(); failed != 0 {
		return started.Add(time.Duration(failed))
	}
	return time.Time{}
}

const (
	// maxDirect limits the lookups that are sent without a batch at the same time. Two such lookups
	// cost no more than a batch of two.
	maxDirect = 2
	// If a batch takes longer than lateAfter, queued lookups no longer wait for it. They are sent in
	// another batch if fewer than maxBatches are in progress.
	lateAfter  = 5 * time.Millisecond
	maxBatches = 4
	// If splitAt lookups are in the queue, a second batch is sent while the first is in progress.
	splitAt = 24
	// maxBatch limits the lookups in a batch, because Redis serves no other client during a batch.
	maxBatch = 256
)

// lookup is a read of one session's keys in Redis, with its result.
type lookup struct {
	keys [3]string // of the generation, the session and the revoked token

	result session.Lookup
	err    error
	done   chan struct{} // receives once result and err are set

	alone    [1]*lookup // this lookup as the only element, for sendDirectly's call of send
	deadline time.Time
	gone     bool // the caller no longer waits for the result; guarded by batcher.mu

	span trace.Span // the lookup's span; nil if the batcher has no tracer
}

// newLookup returns a lookup from the pool, or a new one.
func (b *batcher) newLookup(keys [3]string) *lookup {
	l, ok := b.pool.Get().(*lookup)
	if !ok {
		l = &lookup{done: make(chan struct{}, 1)}
	}
	l.keys, l.result, l.err = keys, session.Lookup{}, nil
	l.deadline = time.Now().Add(b.timeout)
	return l
}

// answer returns the result of a finished lookup and puts the lookup back into the pool. It must
// not be called if the caller of the lookup gave up, because the result may still arrive.
func (b *batcher) answer(l *lookup) (session.Lookup, error) {
	result, err := l.result, l.err
	b.pool.Put(l)
	return result, err
}

// look reads the keys from Redis, directly or in a batch. It returns at the latest when ctx or the
// timeout ends.
func (b *batcher) look(ctx context.Context, keys [3]string) (session.Lookup, error) {
	l := b.newLookup(keys)
	if b.tracer != nil {
		l.span = trace.SpanFromContext(ctx)
	}
	b.mu.Lock()
	if b.maySendDirectly() {
		b.direct++
		b.mu.Unlock()
		b.sendDirectly(ctx, l)
		return b.answer(l)
	}
	b.queue = append(b.queue, l)
	b.startSender()
	b.mu.Unlock()

	select {
	case <-l.done:
		return b.answer(l)
	case <-ctx.Done():
		b.mu.Lock()
		l.gone = true
		b.mu.Unlock()
		return session.Lookup{}, ctx.Err()
	}
}

// maySendDirectly reports whether the load is so low that a lookup can be sent without a batch. The
// caller holds b.mu.
func (b *batcher) maySendDirectly() bool {
	switch {
	case b.unbatched:
		return true
	case b.batches > 0, b.direct >= maxDirect, b.yielding:
		return false
	case b.busy:
		b.yield()
		b.busy = len(b.queue) > 0
	}
	return !b.busy
}

// yield lets other goroutines run first, so that their lookups can join the queue. The caller holds
// b.mu, which yield releases while the others run.
func (b *batcher) yield() {
	b.yielding = true
	b.mu.Unlock()
	runtime.Gosched()
	b.mu.Lock()
	b.yielding = false
}

func (b *batcher) sendDirectly(ctx context.Context, l *lookup) {
	limited, cancel := context.WithDeadline(ctx, l.deadline)
	l.alone[0] = l
	err := b.send(limited, l.alone[:])
	<-l.done
	cancel()
	if err == nil || !errors.Is(ctx.Err(), context.Canceled) { // a client that left is no failure of the server
		b.note(err)
	}
	b.mu.Lock()
	b.direct--
	b.mu.Unlock()
}

// startSender starts a goroutine that sends the queued lookups, unless another goroutine is about
// to send them. The caller holds b.mu.
func (b *batcher) startSender() {
	if b.batches == maxBatches || b.yielding {
		return
	}
	if onTime := b.batches - b.late; onTime == 0 && len(b.queue) > 0 || onTime == 1 && len(b.queue) >= splitAt {
		b.batches++
		go b.sendQueue()
	}
}

// sendQueue sends one batch after another until the queue is empty.
func (b *batcher) sendQueue() {
	var lookups []*lookup
	for {
		b.mu.Lock()
		if len(b.queue) > 0 {
			b.yield()
		}
		lookups = b.nextBatch(lookups[:0])
		b.busy = b.busy || len(lookups) > 1
		b.startSender()
		if len(lookups) == 0 {
			b.batches--
			b.mu.Unlock()
			return
		}
		sent := &batch{batcher: b}
		watch := time.AfterFunc(lateAfter, sent.markLate)
		b.mu.Unlock()

		// The oldest lookup sets the batch's deadline, so that no caller waits longer than the
		// timeout. Younger lookups may fail early. The ledger then answers their checks.
		ctx, cancel := context.WithDeadline(context.Background(), lookups[0].deadline)
		traced, end := b.traceBatch(ctx, lookups)
		b.note(end(b.send(traced, lookups)))
		cancel()
		watch.Stop()
		sent.finish()
	}
}

// batch is a group of lookups that was sent to Redis. The batcher's mu guards its fields.
type batch struct {
	*batcher
	finished, late bool
}

// markLate is called when the time lateAfter has passed since the batch was sent. If the batch is
// still in progress, markLate allows another batch.
func (sent *batch) markLate() {
	sent.mu.Lock()
	defer sent.mu.Unlock()
	if !sent.finished {
		sent.late = true
		sent.batcher.late++
		sent.startSender()
	}
}

func (sent *batch) finish() {
	sent.mu.Lock()
	defer sent.mu.Unlock()
	sent.finished = true
	if sent.late {
		sent.batcher.late--
	}
}

// nextBatch moves lookups from the queue to batch and drops the lookups whose callers gave up. If
// no other batch is in progress and the queue is long enough for two batches, nextBatch takes half
// of the queue. The caller holds b.mu.
func (b *batcher) nextBatch(batch []*lookup) []*lookup {
	most, taken := maxBatch, 0
	if len(b.queue) >= 2*splitAt && b.batches-b.late == 1 {
		most = min(most, len(b.queue)/2)
	}
	for _, l := range b.queue {
		if len(batch) == most {
			break
		}
		taken++
		if !l.gone {
			batch = append(batch, l)
		}
	}
	b.queue = slices.Delete(b.queue, 0, taken)
	return batch
}
