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

// server is one behind a batcher: each flight lands when the test lets it.
type server struct {
	out chan *trip
}

type trip struct {
	calls []*call
	land  chan struct{}
}

func newFlights() (*batcher, *server) {
	f := &server{out: make(chan *trip, 100)}
	return &batcher{timeout: 100 * time.Millisecond, send: func(ctx context.Context, calls []*call) {
		it := &trip{calls: append([]*call(nil), calls...), land: make(chan struct{})}
		f.out <- it
		var err error
		select {
		case <-it.land:
		case <-ctx.Done():
			err = ctx.Err()
		}
		for _, c := range it.calls {
			n, _ := strconv.ParseInt(c.keys[1], 10, 64)
			c.view, c.err = session.Lookup{Generation: n}, err
			c.done <- struct{}{}
		}
	}}, f
}

// answer is what a lookup came back with, and when.
type answer struct {
	generation int64
	err        error
	took       time.Duration
}

// ask looks for session n, in its own goroutine.
func ask(ctx context.Context, b *batcher, n int) <-chan answer {
	out := make(chan answer, 1)
	go func() {
		start := time.Now()
		view, err := b.look(ctx, [3]string{1: strconv.Itoa(n)})
		out <- answer{view.Generation, err, time.Since(start)}
	}()
	synctest.Wait()
	return out
}

// wantIdle: once all that is out has landed or timed out, nothing is left behind.
func (b *batcher) wantIdle(t *testing.T) {
	t.Helper()
	time.Sleep(time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.flights != 0 || b.alone != 0 || b.late != 0 || len(b.waiting) != 0 {
		t.Errorf("left behind: %d flights, %d alone, %d late, %d waiting", b.flights, b.alone, b.late, len(b.waiting))
	}
}

func TestTwoGoAloneAndOthersTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := newFlights()
		var answers []<-chan answer
		for n := range 10 {
			answers = append(answers, ask(t.Context(), b, n))
		}
		// Two alone, the third in a flight that finds nobody else yet.
		var out []*trip
		for i := range 3 {
			if out = append(out, <-f.out); len(out[i].calls) != 1 {
				t.Errorf("flight %d carries %d", i, len(out[i].calls))
			}
		}
		close(out[0].land)
		close(out[1].land)
		synctest.Wait()
		answers = append(answers, ask(t.Context(), b, 10)) // goes with those who wait for the third
		if len(f.out) > 0 {
			t.Error("went alone while a flight is out")
		}
		close(out[2].land)
		it := <-f.out
		if len(it.calls) != 8 {
			t.Errorf("the others travel in a flight of %d, want 8", len(it.calls))
		}
		close(it.land)
		for n, out := range answers {
			if got := <-out; got.generation != int64(n) || got.err != nil {
				t.Errorf("session %d was answered %+v", n, got)
			}
		}
		b.wantIdle(t)
	})
}

// Behind a flight that is out, so many wait until they are worth another; and a crowd
// that boards at once is shared between two.
func TestCrowdTravelsInTwoFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := newFlights()
		ask(t.Context(), b, 0)
		ask(t.Context(), b, 1)
		<-f.out
		<-f.out // two alone that do not land
		ask(t.Context(), b, 2)
		first := <-f.out
		for n := range crowd - 1 {
			ask(t.Context(), b, n)
		}
		if len(f.out) > 0 {
			t.Fatalf("a second flight for %d", crowd-1)
		}
		ask(t.Context(), b, crowd)
		start := time.Now()
		second := <-f.out
		if waited := time.Since(start); len(second.calls) != crowd || waited != 0 {
			t.Errorf("the second flight carries %d, want %d, after %v", len(second.calls), crowd, waited)
		}
		for n := range 2*crowd + 1 {
			ask(t.Context(), b, n)
		}
		if len(f.out) > 0 {
			t.Fatal("a third flight")
		}
		close(first.land) // while the second is out, all board together
		it := <-f.out
		if len(it.calls) != 2*crowd+1 {
			t.Errorf("one of two flights takes %d, want %d", len(it.calls), 2*crowd+1)
		}
		close(it.land)
		close(second.land)
		synctest.Wait()

		ask(t.Context(), b, 0)
		last := <-f.out
		b.mu.Lock()
		b.yielding = true // nobody launches meanwhile
		b.mu.Unlock()
		for n := range 2*crowd + 1 {
			ask(t.Context(), b, n)
		}
		b.mu.Lock()
		b.yielding = false
		b.mu.Unlock()
		close(last.land)
		synctest.Wait()
		one, two := <-f.out, <-f.out
		if a, b := len(one.calls), len(two.calls); a+b != 2*crowd+1 || min(a, b) != crowd {
			t.Errorf("a crowd of %d travels in flights of %d and %d", 2*crowd+1, a, b)
		}
		close(one.land)
		close(two.land)
		b.wantIdle(t)
	})
}

// One slow flight holds up those who board later for no longer than patience.
func TestSlowFlightIsPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := newFlights()
		for n := range 2 {
			ask(t.Context(), b, n)
			<-f.out // never lands
		}
		slow := ask(t.Context(), b, 2)
		<-f.out // nor does this
		quick := ask(t.Context(), b, 3)
		start := time.Now()
		it := <-f.out
		if waited := time.Since(start); waited != patience {
			t.Errorf("waited %v behind the slow flight, want %v", waited, patience)
		}
		close(it.land)
		if got := <-quick; got.generation != 3 || got.err != nil || got.took != patience {
			t.Errorf("behind the slow flight: %+v", got)
		}
		// While the slow one is out, who comes later waits for nothing.
		later := ask(t.Context(), b, 4)
		close((<-f.out).land)
		if got := <-later; got.generation != 4 || got.took != 0 {
			t.Errorf("later: %+v", got)
		}
		if got := <-slow; !errors.Is(got.err, context.DeadlineExceeded) || got.took != b.timeout {
			t.Errorf("in the slow flight: %+v", got)
		}
		b.wantIdle(t)
	})
}

// With every flight stuck, those who wait leave at their own deadline, and no more
// flights are sent than may be out.
func TestNobodyWaitsBeyondTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := newFlights()
		var answers []<-chan answer
		for n := range 50 {
			answers = append(answers, ask(t.Context(), b, n))
			time.Sleep(time.Millisecond)
		}
		if out := len(f.out); out != maxAlone+maxFlights {
			t.Errorf("%d are out, want %d", out, maxAlone+maxFlights)
		}
		for n, out := range answers {
			if got := <-out; !errors.Is(got.err, context.DeadlineExceeded) || got.took > b.timeout {
				t.Errorf("session %d was answered %+v", n, got)
			}
		}
		b.wantIdle(t)
	})
}

// Who gives up leaves alone the answers of the others, and is not carried when it
// left before boarding.
func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := newFlights()
		for n := range 3 {
			ask(t.Context(), b, n)
		}
		first, second, third := <-f.out, <-f.out, <-f.out
		ctx, leave := context.WithCancel(t.Context())
		leaver := ask(ctx, b, 3)
		stays := ask(t.Context(), b, 4)
		leave()
		if got := <-leaver; !errors.Is(got.err, context.Canceled) || got.took != 0 {
			t.Errorf("who left: %+v", got)
		}
		close(third.land)
		it := <-f.out
		if len(it.calls) != 1 || it.calls[0].keys[1] != "4" {
			t.Errorf("the flight carries %d", len(it.calls))
		}
		close(it.land)
		if got := <-stays; got.generation != 4 || got.err != nil {
			t.Errorf("who stayed: %+v", got)
		}
		close(first.land)
		close(second.land)
	})
}

// Under load, with callers that leave at random, every answer belongs to its question.
func TestNoAnswerIsMixedUp(t *testing.T) {
	b := &batcher{timeout: time.Second, send: func(_ context.Context, calls []*call) {
		for _, c := range calls {
			n, _ := strconv.ParseInt(c.keys[1], 10, 64)
			c.view = session.Lookup{Generation: n}
			c.done <- struct{}{}
		}
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
				view, err := b.look(ctx, [3]string{1: strconv.Itoa(n)})
				cancel()
				if err == nil && view.Generation != int64(n) {
					t.Errorf("asked for %d and was told of %d", n, view.Generation)
				}
				if err != nil && i%20 != 0 {
					t.Errorf("session %d: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
}

// The timer of a flight may fire as it lands. It is not late then.
func TestLandedIsNotLate(t *testing.T) {
	b := &batcher{}
	f := &flight{batcher: b}
	f.land()
	f.isLate()
	if b.late != 0 {
		t.Errorf("%d flights are late and none is out", b.late)
	}
}
