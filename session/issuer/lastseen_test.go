package issuer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessiond/sessiond/session"
)

// fakeLedger records the batches that Touch receives. A test can make Touch fail.
type fakeLedger struct {
	mu      sync.Mutex
	batches [][]Use
	err     error
}

func (f *fakeLedger) Touch(_ context.Context, uses []Use) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.batches = append(f.batches, slices.Clone(uses))
	}
	return f.err
}

func (f *fakeLedger) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// taken returns the batches that Touch received since the last call of taken.
func (f *fakeLedger) taken() [][]Use {
	f.mu.Lock()
	defer f.mu.Unlock()
	batches := f.batches
	f.batches = nil
	return batches
}

// withLastSeen runs f with a running LastSeen under synctest's clock. The function stop ends Run.
func withLastSeen(t *testing.T, f func(t *testing.T, l *LastSeen, ledger *fakeLedger, logs *bytes.Buffer, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ledger, logs := &fakeLedger{}, &bytes.Buffer{}
		l := NewLastSeen(ledger, slog.New(slog.NewTextHandler(logs, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		stop := func() { cancel(); <-done }
		defer stop()
		f(t, l, ledger, logs, stop)
	})
}

// waitForFlush waits until the running LastSeen has written its queue to the ledger.
func waitForFlush() {
	time.Sleep(seenInterval)
	synctest.Wait()
}

func addMany(t *testing.T, l *LastSeen, prefix string, n int) {
	t.Helper()
	for i := range n {
		if !l.Add(session.Ref{SessionID: fmt.Sprint(prefix, i)}, time.Now()) {
			t.Fatalf("use %d was refused", i)
		}
	}
}

func TestLastSeen_WritesLatestUseOfEachSession(t *testing.T) {
	withLastSeen(t, func(t *testing.T, l *LastSeen, ledger *fakeLedger, _ *bytes.Buffer, _ func()) {
		now := time.Now()
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				l.Add(session.Ref{SessionID: "a"}, now.Add(time.Duration(i*37%100)*time.Second))
				l.Add(session.Ref{SessionID: "b"}, now)
			})
		}
		wg.Wait()
		time.Sleep(seenInterval - time.Nanosecond)
		synctest.Wait()
		if early := ledger.taken(); early != nil {
			t.Errorf("written before the interval: %v", early)
		}
		waitForFlush()
		got := ledger.taken()
		if len(got) != 1 || len(got[0]) != 2 {
			t.Fatalf("written: %v, want one batch of two sessions", got)
		}
		for _, want := range []Use{{"a", now.Add(99 * time.Second)}, {"b", now}} {
			if !slices.Contains(got[0], want) {
				t.Errorf("written: %v, want a batch that contains %v", got[0], want)
			}
		}
		waitForFlush()
		if again := ledger.taken(); again != nil {
			t.Errorf("written a second time: %v", again)
		}
	})
}

func TestLastSeen_SplitsLongQueueIntoBatches(t *testing.T) {
	withLastSeen(t, func(t *testing.T, l *LastSeen, ledger *fakeLedger, _ *bytes.Buffer, _ func()) {
		addMany(t, l, "s", 2*seenBatch+1)
		waitForFlush()
		got := ledger.taken()
		distinct := make(map[string]bool)
		for _, batch := range got {
			if len(batch) > seenBatch {
				t.Errorf("a batch has %d uses, want at most %d", len(batch), seenBatch)
			}
			for _, use := range batch {
				distinct[use.SessionID] = true
			}
		}
		if len(got) != 3 || len(distinct) != 2*seenBatch+1 {
			t.Errorf("written: %d batches with %d different sessions", len(got), len(distinct))
		}
	})
}

func TestLastSeen_FullQueueRefusesFurtherSessions(t *testing.T) {
	withLastSeen(t, func(t *testing.T, l *LastSeen, ledger *fakeLedger, _ *bytes.Buffer, _ func()) {
		ledger.fail(session.ErrUnavailable)
		addMany(t, l, "s", maxPending)
		for range 2 { // after a failed write, the uses are queued again and the queue is full again
			if l.Add(session.Ref{SessionID: "one more"}, time.Now()) {
				t.Error("the full queue accepted a use of another session")
			}
			if !l.Add(session.Ref{SessionID: "s7"}, time.Now()) {
				t.Error("the full queue refused a later use of a queued session")
			}
			waitForFlush()
		}
		ledger.fail(nil)
		waitForFlush()
		if !l.Add(session.Ref{SessionID: "one more"}, time.Now()) {
			t.Error("the empty queue refused a use")
		}
		n := 0
		for _, batch := range ledger.taken() {
			n += len(batch)
		}
		if n != maxPending {
			t.Errorf("%d uses were written, want %d", n, maxPending)
		}
	})
}

func TestLastSeen_WritesQueueWhenStopped(t *testing.T) {
	withLastSeen(t, func(t *testing.T, l *LastSeen, ledger *fakeLedger, _ *bytes.Buffer, stop func()) {
		now := time.Now()
		addMany(t, l, "s", 3)
		stop()
		if got := ledger.taken(); len(got) != 1 || len(got[0]) != 3 || !time.Now().Equal(now) {
			t.Errorf("written after the stop: %v, after %v", got, time.Since(now))
		}
	})
}

// slowLedger is a ledger whose Touch returns only when the test sends to the channel answer.
type slowLedger struct {
	fakeLedger
	asked, answer chan struct{}
}

func (s *slowLedger) Touch(ctx context.Context, uses []Use) error {
	s.asked <- struct{}{}
	select {
	case <-s.answer:
		return s.fakeLedger.Touch(ctx, uses)
	case <-ctx.Done():
		return session.ErrUnavailable
	}
}

// A use that was added during a write is written before Run returns. If the ledger never answers,
// Run returns after the time limits of two writes.
func TestLastSeen_StopDuringWriteLosesNoUse(t *testing.T) {
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ledger := &slowLedger{asked: make(chan struct{}), answer: make(chan struct{})}
			l := NewLastSeen(ledger, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); l.Run(ctx) }()
			l.Add(session.Ref{SessionID: "early"}, time.Now())
			<-ledger.asked
			added := make(chan struct{})
			go func() { defer close(added); l.Add(session.Ref{SessionID: "late"}, time.Now()) }()
			<-added // Add must not wait for the ledger's answer
			cancel()
			stopped := time.Now()
			if answers {
				ledger.answer <- struct{}{}
				<-ledger.asked
				ledger.answer <- struct{}{}
			} else {
				<-ledger.asked
			}
			<-done
			if took := time.Since(stopped); took > 2*seenInterval {
				t.Errorf("Run returned %v after the stop", took)
			}
			if got := ledger.taken(); answers && (len(got) != 2 || got[1][0].SessionID != "late") {
				t.Errorf("written: %v", got)
			}
		})
	}
}

func TestLastSeen_RetriesOnlyIfLedgerIsUnavailable(t *testing.T) {
	withLastSeen(t, func(t *testing.T, l *LastSeen, ledger *fakeLedger, logs *bytes.Buffer, _ func()) {
		warnings := func(want int) {
			t.Helper()
			if got := strings.Count(logs.String(), "level=WARN"); got != want {
				t.Errorf("%d warnings were logged, want %d:\n%s", got, want, logs)
			}
		}
		first := time.Now()
		l.Add(session.Ref{SessionID: "a"}, first)
		l.Add(session.Ref{SessionID: "b"}, first)
		ledger.fail(fmt.Errorf("touch: %w", session.ErrUnavailable))
		for range 3 {
			waitForFlush()
		}
		warnings(1)
		later := time.Now()
		l.Add(session.Ref{SessionID: "b"}, later)
		ledger.fail(nil)
		waitForFlush()
		if got := ledger.taken(); len(got) != 1 || len(got[0]) != 2 || !slices.Contains(got[0], Use{"a", first}) || !slices.Contains(got[0], Use{"b", later}) {
			t.Errorf("written after the ledger was back: %v", got)
		}
		warnings(1)

		// After an error other than ErrUnavailable, LastSeen drops the batch, because each retry
		// would fail too.
		l.Add(session.Ref{SessionID: "a"}, time.Now())
		ledger.fail(errors.New("no such table"))
		waitForFlush()
		warnings(2)
		ledger.fail(nil)
		waitForFlush()
		if got := ledger.taken(); got != nil {
			t.Errorf("the uses of a dropped batch were written: %v", got)
		}

		// The batch after a failed batch stays in the queue, because LastSeen has not tried to
		// write it.
		for i := range seenBatch + 1 {
			l.Add(session.Ref{SessionID: strconv.Itoa(i)}, time.Now())
		}
		ledger.fail(errors.New("no such session"))
		waitForFlush()
		ledger.fail(nil)
		waitForFlush()
		if got := ledger.taken(); len(got) != 1 || len(got[0]) != 1 {
			t.Errorf("written after a failed batch: %v, want the one use that was not tried", got)
		}
	})
}

func BenchmarkLastSeen_Add(b *testing.B) {
	ids := make([]string, maxPending+1)
	for i := range ids {
		ids[i] = NewID()
	}
	now := time.Now()
	for _, full := range []bool{false, true} {
		b.Run(fmt.Sprintf("full=%v", full), func(b *testing.B) {
			l := NewLastSeen(nil, nil)
			for _, id := range ids[:maxPending] {
				l.Add(session.Ref{SessionID: id}, now)
			}
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if full {
						l.Add(session.Ref{SessionID: ids[maxPending]}, now)
					} else {
						l.Add(session.Ref{SessionID: ids[i%maxPending]}, now.Add(time.Duration(i)))
					}
				}
			})
		})
	}
}
