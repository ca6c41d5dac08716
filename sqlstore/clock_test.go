package sqlstore_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessiond/sessiond/sqlstore"
)

func TestClock_ReturnsDatabaseTimeInUTC(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		clock, err := db.Clock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := clock.Now()
		if apart := time.Since(got).Abs(); apart > time.Minute {
			t.Errorf("the clock of a database on this machine is off by %v", apart)
		}
		if got.Location() != time.UTC || got != got.Truncate(time.Microsecond) {
			t.Errorf("%v is not UTC in microseconds", got)
		}
	})
}

// source is a fake database clock. It differs from this process's clock and answers with delays.
type source struct {
	mu sync.Mutex
	state
}

type state struct {
	ahead, ask, answer time.Duration
	err                error
}

func (s *source) set(change func(*state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
}

func (s *source) get() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *source) sample(context.Context) (time.Time, error) {
	current := s.get()
	time.Sleep(current.ask)
	now := time.Now().Add(current.ahead)
	time.Sleep(current.answer)
	return now, current.err
}

func (s *source) off(c *sqlstore.Clock) time.Duration {
	return c.Now().Sub(time.Now().Add(s.get().ahead))
}

func TestClock_FollowsDatabaseClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &source{state: state{ahead: time.Hour, ask: 3 * time.Millisecond, answer: time.Millisecond}}
		clock, err := sqlstore.NewClock(t.Context(), db.sample)
		if err != nil {
			t.Fatal(err)
		}
		go clock.Run(t.Context())

		before := db.off(clock)
		if before.Abs() > 2*time.Millisecond {
			t.Errorf("the clock is off by %v, want at most half the round trip of 4ms", before)
		}

		// A slow answer does not change the clock, because it is less exact than an earlier sample.
		db.set(func(s *state) { s.ask, s.answer = time.Second, 10*time.Millisecond })
		time.Sleep(35 * time.Second)
		if off := db.off(clock); off != before {
			t.Errorf("a slow answer moved the clock from %v to %v", before, off)
		}

		// The database's clock can jump, because after a failover the new primary has another
		// clock.
		db.set(func(s *state) { s.ahead, s.ask, s.answer = -time.Hour, time.Millisecond, time.Millisecond })
		time.Sleep(30 * time.Second)
		if off := db.off(clock).Abs(); off > 2*time.Millisecond {
			t.Errorf("the clock is off by %v after the database's clock was set", off)
		}

		// While the database does not answer, the clock continues with the monotonic clock.
		gone := errors.New("gone")
		db.set(func(s *state) { s.ahead, s.err = 5*time.Hour, gone })
		at := clock.Now()
		time.Sleep(time.Hour)
		if passed := clock.Now().Sub(at); passed != time.Hour {
			t.Errorf("the clock advanced by %v in an hour", passed)
		}
		if _, err := sqlstore.NewClock(t.Context(), db.sample); !errors.Is(err, gone) {
			t.Errorf("NewClock without the database = %v, want the error of the sample", err)
		}
	})
}
