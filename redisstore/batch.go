package redisstore

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/session"
)

// batcher sends lookups that arrive at the same time as one batch: a group of lookups in one round
// trip. A busy replica and its Redis then pay for a system call once for many lookups.
//
// At low load the batcher does nothing. A lookup that finds at most one other in progress is
// sent directly, by its caller's goroutine. From the third on, lookups queue while a batch
// is in progress, and are sent together when it returns. At high load the batcher yields the
// CPU once before it sends a batch, so that goroutines that are about to look something up
// can join it. Yielding takes no time if no goroutine is ready. A long queue is split into
// two batches, so that Redis answers one while this process handles the other.
type batcher struct {
	// send answers all lookups in one round trip. Its context ends after timeout.
	send      func(ctx context.Context, lookups []*lookup) error
	timeout   time.Duration
	unbatched bool // send every lookup directly

	mu       sync.Mutex
	queue    []*lookup
	direct   int  // lookups that are sent directly
	batches  int  // batches in progress
	late     int  // of these, batches in progress for longer than lateAfter
	yielding bool // a goroutine has yielded the CPU and will start a sender itself
	busy     bool // a recent batch had several lookups, so another lookup may be about to arrive

	pool sync.Pool // of *lookup

	answered, failed atomic.Int64 // when the server last answered and failed, as time since started
}

var started = time.Now()

// failureGap is how long a server must not have answered for a failure to count. On an overloaded
// machine single lookups take too long while the server answers others.
const failureGap = 250 * time.Millisecond

// note remembers when the server answered or failed.
func (b *batcher) note(err error) {
	now := time.Since(started)
	switch {
	case err == nil:
		b.answered.Store(int64(now))
	case now-time.Duration(b.answered.Load()) > failureGap && !redirected(err):
		b.failed.Store(int64(now))
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
	// Two direct lookups cost no more than a batch of two, and wait for nothing.
	maxDirect = 2
	// After lateAfter, queued lookups no longer wait for a slow batch: another
	// batch is sent, as long as at most maxBatches are in progress.
	lateAfter  = 5 * time.Millisecond
	maxBatches = 4
	// From splitAt queued lookups on, a second batch is worth its cost.
	splitAt = 24
	// maxBatch limits how long one batch keeps Redis busy.
	maxBatch = 256
)

// lookup is one check's question to Redis, and the answer.
type lookup struct {
	keys [3]string // see keys.check

	result session.Lookup
	err    error
	done   chan struct{} // receives once result and err are set

	alone    [1]*lookup // this lookup, as a batch of one
	deadline time.Time
	gone     bool // the caller no longer waits; guarded by batcher.mu
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

// answer returns the answer of a finished lookup and puts the lookup into the pool. A lookup whose
// caller is gone must not be reused, because its answer may still arrive.
func (b *batcher) answer(l *lookup) (session.Lookup, error) {
	result, err := l.result, l.err
	b.pool.Put(l)
	return result, err
}

// look sends a lookup, directly or in a batch, and waits for its answer until ctx
// or the timeout ends.
func (b *batcher) look(ctx context.Context, keys [3]string) (session.Lookup, error) {
	l := b.newLookup(keys)
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

// maySendDirectly reports whether the load is so low that a lookup need not join a batch. b.mu is
// held.
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

// yield lets other goroutines run first, so that their lookups can join the queue. b.mu is held
// before and after, but not while they run.
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
	if err == nil || ctx.Err() == nil { // a client that left is no failure of the server
		b.note(err)
	}
	b.mu.Lock()
	b.direct--
	b.mu.Unlock()
}

// startSender starts a goroutine that sends the queue, unless another one is about
// to send it. b.mu is held.
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

		// The oldest lookup sets the deadline, so that no caller waits longer than the timeout. For
		// the younger ones the batch may fail early. The ledger then answers them.
		ctx, cancel := context.WithDeadline(context.Background(), lookups[0].deadline)
		b.note(b.send(ctx, lookups))
		cancel()
		watch.Stop()
		sent.finish()
	}
}

// batch is a batch that was sent. Its fields are guarded by the batcher's mu.
type batch struct {
	*batcher
	finished, late bool
}

// markLate is called lateAfter the batch was sent.
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

// nextBatch appends lookups of the queue to batch and drops those whose callers are
// gone. If no other batch is in progress and the queue is long enough for two, it takes
// half of the queue. b.mu is held.
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
