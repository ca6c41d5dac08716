package redisstore

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessiond/sessiond/session"
)

// fakeServer answers the batches of a batcher, each when the test closes sentBatch.answer.
type fakeServer struct {
	sent chan *sentBatch
}

type sentBatch struct {
	lookups []*lookup
	answer  chan struct{} // the test closes this channel to answer the batch
}

func newBatcher() (*batcher, *fakeServer) {
	server := &fakeServer{sent: make(chan *sentBatch, 100)}
	return &batcher{timeout: 100 * time.Millisecond, send: func(ctx context.Context, lookups []*lookup) error {
		sent := &sentBatch{lookups: append([]*lookup(nil), lookups...), answer: make(chan struct{})}
		server.sent <- sent
		var err error
		select {
		case <-sent.answer:
		case <-ctx.Done():
			err = ctx.Err()
		}
		for _, l := range sent.lookups {
			n, _ := strconv.ParseInt(l.keys[1], 10, 64)
			l.result, l.err = session.Lookup{Generation: n}, err
			l.done <- struct{}{}
		}
		return err
	}}, server
}

// answer is the result of a lookup, and how long the lookup took.
type answer struct {
	generation int64
	err        error
	took       time.Duration
}

// ask looks up session n in its own goroutine. The fake server answers with generation n.
func ask(ctx context.Context, b *batcher, n int) <-chan answer {
	out := make(chan answer, 1)
	go func() {
		start := time.Now()
		result, err := b.look(ctx, [3]string{1: strconv.Itoa(n)})
		out <- answer{result.Generation, err, time.Since(start)}
	}()
	synctest.Wait()
	return out
}

// wantIdle checks that no lookup or batch is left in progress after all timeouts have passed.
func (b *batcher) wantIdle(t *testing.T) {
	t.Helper()
	time.Sleep(time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.batches != 0 || b.direct != 0 || b.late != 0 || len(b.queue) != 0 {
		t.Errorf("left: %d batches, %d direct lookups, %d late batches, %d queued lookups", b.batches, b.direct, b.late, len(b.queue))
	}
}

func TestBatcher_SendsTwoLookupsDirectlyAndOthersInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := newBatcher()
		var answers []<-chan answer
		for n := range 10 {
			answers = append(answers, ask(t.Context(), b, n))
		}
		// Two lookups are sent directly. The third is sent in a batch before others can join it.
		var sent []*sentBatch
		for i := range 3 {
			if sent = append(sent, <-server.sent); len(sent[i].lookups) != 1 {
				t.Errorf("batch %d has %d lookups, want 1", i, len(sent[i].lookups))
			}
		}
		close(sent[0].answer)
		close(sent[1].answer)
		synctest.Wait()
		answers = append(answers, ask(t.Context(), b, 10)) // this lookup waits for the batch, like those before it
		if len(server.sent) > 0 {
			t.Error("a lookup was sent directly while a batch was in progress")
		}
		close(sent[2].answer)
		rest := <-server.sent
		if len(rest.lookups) != 8 {
			t.Errorf("the queued lookups were sent in a batch of %d, want 8", len(rest.lookups))
		}
		close(rest.answer)
		for n, out := range answers {
			if got := <-out; got.generation != int64(n) || got.err != nil {
				t.Errorf("the answer for session %d is %+v", n, got)
			}
		}
		b.wantIdle(t)
	})
}

// TestBatcher_SplitsLongQueueIntoTwoBatches checks that a second batch is sent once splitAt lookups
// wait for the first batch, and that a queue of more than 2*splitAt lookups is split between two
// batches.
func TestBatcher_SplitsLongQueueIntoTwoBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := newBatcher()
		ask(t.Context(), b, 0)
		ask(t.Context(), b, 1)
		<-server.sent
		<-server.sent // the test does not answer these two direct lookups
		ask(t.Context(), b, 2)
		first := <-server.sent
		for n := range splitAt - 1 {
			ask(t.Context(), b, n)
		}
		if len(server.sent) > 0 {
			t.Fatalf("a second batch was sent for %d lookups", splitAt-1)
		}
		ask(t.Context(), b, splitAt)
		start := time.Now()
		second := <-server.sent
		if waited := time.Since(start); len(second.lookups) != splitAt || waited != 0 {
			t.Errorf("the second batch has %d lookups after %v, want %d at once", len(second.lookups), waited, splitAt)
		}
		for n := range 2*splitAt + 1 {
			ask(t.Context(), b, n)
		}
		if len(server.sent) > 0 {
			t.Fatal("a third batch was sent")
		}
		close(first.answer) // the second batch is still in progress, so all queued lookups join one batch
		next := <-server.sent
		if len(next.lookups) != 2*splitAt+1 {
			t.Errorf("the next batch has %d lookups, want %d", len(next.lookups), 2*splitAt+1)
		}
		close(next.answer)
		close(second.answer)
		synctest.Wait()

		ask(t.Context(), b, 0)
		last := <-server.sent
		b.mu.Lock()
		b.yielding = true // while yielding is true, no batch is sent, so the queue grows
		b.mu.Unlock()
		for n := range 2*splitAt + 1 {
			ask(t.Context(), b, n)
		}
		b.mu.Lock()
		b.yielding = false
		b.mu.Unlock()
		close(last.answer)
		synctest.Wait()
		one, two := <-server.sent, <-server.sent
		if a, b := len(one.lookups), len(two.lookups); a+b != 2*splitAt+1 || min(a, b) != splitAt {
			t.Errorf("%d lookups were split into batches of %d and %d", 2*splitAt+1, a, b)
		}
		close(one.answer)
		close(two.answer)
		b.wantIdle(t)
	})
}

func TestBatcher_SendsNextBatchWhilePreviousBatchIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := newBatcher()
		for n := range 2 {
			ask(t.Context(), b, n)
			<-server.sent // the test never answers this direct lookup
		}
		slow := ask(t.Context(), b, 2)
		<-server.sent // the test never answers this batch
		queued := ask(t.Context(), b, 3)
		start := time.Now()
		next := <-server.sent
		if waited := time.Since(start); waited != lateAfter {
			t.Errorf("the next batch waited %v for the slow batch, want %v", waited, lateAfter)
		}
		close(next.answer)
		if got := <-queued; got.generation != 3 || got.err != nil || got.took != lateAfter {
			t.Errorf("the answer behind the slow batch is %+v", got)
		}
		// While a late batch is in progress, new lookups do not wait for it.
		later := ask(t.Context(), b, 4)
		close((<-server.sent).answer)
		if got := <-later; got.generation != 4 || got.took != 0 {
			t.Errorf("the answer to a later lookup is %+v", got)
		}
		if got := <-slow; !errors.Is(got.err, context.DeadlineExceeded) || got.took != b.timeout {
			t.Errorf("the answer in the slow batch is %+v", got)
		}
		b.wantIdle(t)
	})
}

// TestBatcher_EndsEachLookupAtItsDeadlineWhenServerHangs checks that each queued lookup ends at its
// own deadline if the server does not answer, and that at most maxBatches batches are in progress.
func TestBatcher_EndsEachLookupAtItsDeadlineWhenServerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := newBatcher()
		var answers []<-chan answer
		for n := range 50 {
			answers = append(answers, ask(t.Context(), b, n))
			time.Sleep(time.Millisecond)
		}
		if out := len(server.sent); out != maxDirect+maxBatches {
			t.Errorf("%d batches are in progress, want %d", out, maxDirect+maxBatches)
		}
		for n, out := range answers {
			if got := <-out; !errors.Is(got.err, context.DeadlineExceeded) || got.took > b.timeout {
				t.Errorf("the answer for session %d is %+v", n, got)
			}
		}
		b.wantIdle(t)
	})
}

// TestBatcher_NotesFailureAtCallersDeadline: on a Cluster the caller's deadline includes the time for
// finding the node, so it ends before the lookup's.
func TestBatcher_NotesFailureAtCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBatcher()
		b.answered.Store(int64(time.Since(started) - time.Second)) // fake time is before the package's start
		ctx, cancel := context.WithCancel(t.Context())
		gone := ask(ctx, b, 1)
		cancel()
		if got := <-gone; got.err == nil || !b.lastFailure().IsZero() {
			t.Errorf("a client that left: %+v, a failure at %v", got, b.lastFailure())
		}
		ctx, cancel = context.WithTimeout(t.Context(), b.timeout/2)
		defer cancel()
		if got := <-ask(ctx, b, 2); got.took != b.timeout/2 || b.lastFailure().IsZero() {
			t.Errorf("a server that hangs: %+v, no failure noted", got)
		}
	})
}

// TestBatcher_DropsCanceledLookup checks that a canceled lookup does not affect other lookups, and
// that it is not sent to Redis if it was still queued.
func TestBatcher_DropsCanceledLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := newBatcher()
		for n := range 3 {
			ask(t.Context(), b, n)
		}
		first, second, third := <-server.sent, <-server.sent, <-server.sent
		ctx, cancel := context.WithCancel(t.Context())
		gone := ask(ctx, b, 3)
		stays := ask(t.Context(), b, 4)
		cancel()
		if got := <-gone; !errors.Is(got.err, context.Canceled) || got.took != 0 {
			t.Errorf("the canceled lookup got %+v", got)
		}
		close(third.answer)
		next := <-server.sent
		if len(next.lookups) != 1 || next.lookups[0].keys[1] != "4" {
			t.Errorf("the next batch has %d lookups, want only session 4", len(next.lookups))
		}
		close(next.answer)
		if got := <-stays; got.generation != 4 || got.err != nil {
			t.Errorf("the other lookup got %+v", got)
		}
		close(first.answer)
		close(second.answer)
	})
}

// TestBatcher_NeverMixesUpAnswers checks under load that every lookup gets its own answer. Every
// 20th lookup is canceled.
func TestBatcher_NeverMixesUpAnswers(t *testing.T) {
	b := &batcher{timeout: time.Second, send: func(_ context.Context, lookups []*lookup) error {
		for _, l := range lookups {
			n, _ := strconv.ParseInt(l.keys[1], 10, 64)
			l.result = session.Lookup{Generation: n}
			l.done <- struct{}{}
		}
		return nil
	}}
	var wg sync.WaitGroup
	for worker := range 64 {
		wg.Go(func() {
			for i := range 2000 {
				n := worker*2000 + i
				ctx, cancel := context.WithCancel(t.Context())
				if i%20 == 0 {
					go cancel()
				}
				result, err := b.look(ctx, [3]string{1: strconv.Itoa(n)})
				cancel()
				if err == nil && result.Generation != int64(n) {
					t.Errorf("session %d got the answer for %d", n, result.Generation)
				}
				if err != nil && i%20 != 0 {
					t.Errorf("session %d: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestBatch_DoesNotCountAsLateAfterItHasFinished calls markLate after finish, because a batch can finish at the
// same time as its timer for lateness fires.
func TestBatch_DoesNotCountAsLateAfterItHasFinished(t *testing.T) {
	b := &batcher{}
	sent := &batch{batcher: b}
	sent.finish()
	sent.markLate()
	if b.late != 0 {
		t.Errorf("%d batches are late, want 0 after the only batch finished", b.late)
	}
}
