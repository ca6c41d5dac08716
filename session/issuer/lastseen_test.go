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

// noteBook is a ledger that keeps the batches it was given, and fails when told.
type noteBook struct {
	mu      sync.Mutex
	batches [][]Use
	err     error
}

func (n *noteBook) Touch(_ context.Context, uses []Use) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		n.batches = append(n.batches, slices.Clone(uses))
	}
	return n.err
}

func (n *noteBook) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

// taken returns the batches since it was last asked.
func (n *noteBook) taken() [][]Use {
	n.mu.Lock()
	defer n.mu.Unlock()
	batches := n.batches
	n.batches = nil
	return batches
}

// withLastSeen runs f beside a LastSeen that runs, under a clock that only moves when all wait;
// stop ends it. No goroutine may be left.
func withLastSeen(t *testing.T, f func(t *testing.T, l *LastSeen, book *noteBook, logs *bytes.Buffer, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		book, logs := &noteBook{}, &bytes.Buffer{}
		l := NewLastSeen(book, slog.New(slog.NewTextHandler(logs, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		stop := func() { cancel(); <-done }
		defer stop()
		f(t, l, book, logs, stop)
	})
}

// flushed lets the next flush pass.
func flushed() {
	time.Sleep(seenInterval)
	synctest.Wait()
}

func noteMany(t *testing.T, l *LastSeen, prefix string, n int) {
	t.Helper()
	for i := range n {
		if !l.Add(session.Ref{SessionID: fmt.Sprint(prefix, i)}, time.Now()) {
			t.Fatalf("use %d was not taken", i)
		}
	}
}

func TestLastSeenGathersUses(t *testing.T) {
	withLastSeen(t, func(t *testing.T, l *LastSeen, book *noteBook, _ *bytes.Buffer, _ func()) {
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
		if early := book.taken(); early != nil {
			t.Errorf("written early: %v", early)
		}
		flushed()
		got := book.taken()
		if len(got) != 1 || len(got[0]) != 2 {
			t.Fatalf("written: %v, want one batch with two sessions", got)
		}
		for _, want := range []Use{{"a", now.Add(99 * time.Second)}, {"b", now}} {
			if !slices.Contains(got[0], want) {
				t.Errorf("written: %v, without %v", got[0], want)
			}
		}
		flushed()
		if again := book.taken(); again != nil {
			t.Errorf("written again: %v", again)
		}
	})
}

func TestLastSeenWritesInBatches(t *testing.T) {
	withLastSeen(t, func(t *testing.T, l *LastSeen, book *noteBook, _ *bytes.Buffer, _ func()) {
		noteMany(t, l, "s", 2*seenBatch+1)
		flushed()
		got := book.taken()
		distinct := make(map[string]bool)
		for _, batch := range got {
			if len(batch) > seenBatch {
				t.Errorf("a batch of %d", len(batch))
			}
			for _, use := range batch {
				distinct[use.SessionID] = true
			}
		}
		if len(got) != 3 || len(distinct) != 2*seenBatch+1 {
			t.Errorf("%d batches with %d sessions", len(got), len(distinct))
		}
	})
}

func TestLastSeenIsBounded(t *testing.T) {
	withLastSeen(t, func(t *testing.T, l *LastSeen, book *noteBook, _ *bytes.Buffer, _ func()) {
		book.fail(session.ErrUnavailable)
		noteMany(t, l, "s", maxPending)
		for range 2 { // what was put back counts too
			if l.Add(session.Ref{SessionID: "one more"}, time.Now()) {
				t.Error("one too many was taken")
			}
			if !l.Add(session.Ref{SessionID: "s7"}, time.Now()) {
				t.Error("a later use of a session that waits was not taken")
			}
			flushed()
		}
		book.fail(nil)
		flushed()
		if !l.Add(session.Ref{SessionID: "one more"}, time.Now()) {
			t.Error("not taken although nothing waits")
		}
		n := 0
		for _, batch := range book.taken() {
			n += len(batch)
		}
		if n != maxPending {
			t.Errorf("%d written, want %d", n, maxPending)
		}
	})
}

func TestLastSeenWritesOnceMoreAtTheEnd(t *testing.T) {
	withLastSeen(t, func(t *testing.T, l *LastSeen, book *noteBook, _ *bytes.Buffer, stop func()) {
		now := time.Now()
		noteMany(t, l, "s", 3)
		stop()
		if got := book.taken(); len(got) != 1 || len(got[0]) != 3 || !time.Now().Equal(now) {
			t.Errorf("written at the end: %v, after %v", got, time.Since(now))
		}
	})
}

// slowBook answers when it is let.
type slowBook struct {
	noteBook
	asked, answer chan struct{}
}

func (s *slowBook) Touch(ctx context.Context, uses []Use) error {
	s.asked <- struct{}{}
	select {
	case <-s.answer:
		return s.noteBook.Touch(ctx, uses)
	case <-ctx.Done():
		return session.ErrUnavailable
	}
}

// What is noted while a batch is on its way, and then the service stops, is written as well; a
// ledger that never answers holds up the stop by two flushes.
func TestLastSeenEndsWhileItWrites(t *testing.T) {
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			book := &slowBook{asked: make(chan struct{}), answer: make(chan struct{})}
			l := NewLastSeen(book, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); l.Run(ctx) }()
			l.Add(session.Ref{SessionID: "early"}, time.Now())
			<-book.asked
			noted := make(chan struct{})
			go func() { defer close(noted); l.Add(session.Ref{SessionID: "late"}, time.Now()) }()
			<-noted // nobody who is served waits for the ledger
			cancel()
			stopped := time.Now()
			if answers {
				book.answer <- struct{}{}
				<-book.asked
				book.answer <- struct{}{}
			} else {
				<-book.asked
			}
			<-done
			if took := time.Since(stopped); took > 2*seenInterval {
				t.Errorf("ended after %v", took)
			}
			if got := book.taken(); answers && (len(got) != 2 || got[1][0].SessionID != "late") {
				t.Errorf("written: %v", got)
			}
		})
	}
}

func TestLastSeenAndAFailingLedger(t *testing.T) {
	withLastSeen(t, func(t *testing.T, l *LastSeen, book *noteBook, logs *bytes.Buffer, _ func()) {
		warnings := func(want int) {
			t.Helper()
			if got := strings.Count(logs.String(), "level=WARN"); got != want {
				t.Errorf("%d warnings, want %d:\n%s", got, want, logs)
			}
		}
		first := time.Now()
		l.Add(session.Ref{SessionID: "a"}, first)
		l.Add(session.Ref{SessionID: "b"}, first)
		book.fail(fmt.Errorf("touch: %w", session.ErrUnavailable))
		for range 3 {
			flushed()
		}
		warnings(1)
		later := time.Now()
		l.Add(session.Ref{SessionID: "b"}, later)
		book.fail(nil)
		flushed()
		if got := book.taken(); len(got) != 1 || len(got[0]) != 2 || !slices.Contains(got[0], Use{"a", first}) || !slices.Contains(got[0], Use{"b", later}) {
			t.Errorf("written when it was back: %v", got)
		}
		warnings(1)

		// What no waiting mends is dropped, or it would be in the way for ever.
		l.Add(session.Ref{SessionID: "a"}, time.Now())
		book.fail(errors.New("no such table"))
		flushed()
		warnings(2)
		book.fail(nil)
		flushed()
		if got := book.taken(); got != nil {
			t.Errorf("written after all: %v", got)
		}

		// What was not tried with it is not dropped with it.
		for i := range seenBatch + 1 {
			l.Add(session.Ref{SessionID: strconv.Itoa(i)}, time.Now())
		}
		book.fail(errors.New("no such session"))
		flushed()
		book.fail(nil)
		flushed()
		if got := book.taken(); len(got) != 1 || len(got[0]) != 1 {
			t.Errorf("of one that was not tried, %v was written", got)
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
