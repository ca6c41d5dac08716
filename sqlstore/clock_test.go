package sqlstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessiond/sessiond/sqlstore"
)

func TestClockTellsTheDatabasesTime(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		clock, err := db.Clock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := clock.Now()
		if apart := time.Since(got).Abs(); apart > time.Minute {
			t.Errorf("the clock of a database on this machine is %v away", apart)
		}
		if got.Location() != time.UTC || got != got.Truncate(time.Microsecond) {
			t.Errorf("%v is not UTC in microseconds", got)
		}
	})
}

// source is a database's clock that is ahead of the process's and takes its
// time to answer.
type source struct {
	ahead, ask, answer time.Duration
	err                error
}

func (s *source) sample(context.Context) (time.Time, error) {
	time.Sleep(s.ask)
	now := time.Now().Add(s.ahead)
	time.Sleep(s.answer)
	return now, s.err
}

func (s *source) off(c *sqlstore.Clock) time.Duration {
	return c.Now().Sub(time.Now().Add(s.ahead))
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		db := &source{ahead: time.Hour, ask: 3 * time.Millisecond, answer: time.Millisecond}
		clock, err := sqlstore.NewClock(ctx, db.sample)
		if err != nil {
			t.Fatal(err)
		}
		go clock.Run(ctx)

		if off := db.off(clock).Abs(); off > 2*time.Millisecond {
			t.Errorf("off by %v, half the round trip is 2ms", off)
		}
		before := db.off(clock)

		// A slow answer knows less, so it changes nothing.
		db.ask, db.answer = time.Second, 10*time.Millisecond
		time.Sleep(35 * time.Second)
		if off := db.off(clock); off != before {
			t.Errorf("a slow answer moved the clock from %v to %v", before, off)
		}

		// A failover: the new primary's clock is another one.
		db.ahead, db.ask, db.answer = -time.Hour, time.Millisecond, time.Millisecond
		time.Sleep(30 * time.Second)
		if off := db.off(clock).Abs(); off > 2*time.Millisecond {
			t.Errorf("off by %v after the database's clock was set", off)
		}

		// Without the database it goes on.
		db.err = errors.New("gone")
		at := clock.Now()
		time.Sleep(time.Hour)
		if passed := clock.Now().Sub(at); passed != time.Hour {
			t.Errorf("an hour took %v", passed)
		}
		if _, err := sqlstore.NewClock(ctx, db.sample); !errors.Is(err, db.err) {
			t.Errorf("a clock began without the database: %v", err)
		}
		cancel()
	})
}
