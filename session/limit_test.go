package session

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimit_GivesPlacesToNewestFirstIfManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const places = 2
		l := NewLimit(places)
		for range places {
			if err := l.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		entered := make(chan int, 10)
		var failed atomic.Int32
		wait := func(n int) {
			go func() {
				if err := l.Enter(t.Context()); err == nil {
					entered <- n
				} else if failed.Add(1); !errors.Is(err, ErrUnavailable) {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		for n := range 4 {
			wait(n)
		}
		for _, want := range []int{3, 2, 0} { // from two waiting checks on, the oldest comes first
			l.Leave()
			if got := <-entered; got != want {
				t.Errorf("check %d got the place, want %d", got, want)
			}
		}
		begin := time.Now()
		wait(4)
		time.Sleep(time.Second)
		synctest.Wait()
		if failed.Load() != 2 || len(entered) != 0 {
			t.Errorf("%d checks failed after %v, want 2", failed.Load(), time.Since(begin))
		}
		for range places {
			l.Leave()
		}
		if l.free != places || len(l.waiting) != 0 {
			t.Errorf("%d free places and %d checks waiting at the end", l.free, len(l.waiting))
		}
	})
}
