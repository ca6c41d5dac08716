package sqlstore

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Clock follows the database's clock, which all replicas share. Between two samples of it, Clock
// counts with the process's monotonic clock. A replica whose wall clock jumps therefore still
// agrees with the other replicas. With SQLite, Clock is the machine's clock.
type Clock struct {
	sample func(ctx context.Context) (time.Time, error)
	start  time.Time    // when the Clock was created; Now adds the monotonic time since then
	offset atomic.Int64 // the database's time at start, in nanoseconds since the Unix epoch
}

// Clock returns a clock that follows the database's clock as long as [Clock.Run] runs. It returns
// [session.ErrUnavailable] if the database does not answer.
func (db *DB) Clock(ctx context.Context) (*Clock, error) {
	return newClock(ctx, db.now)
}

func (db *DB) now(ctx context.Context) (time.Time, error) {
	if db.dialect.clock == nil {
		return time.Now().Round(0), nil
	}
	var now timestamp
	err := db.get(ctx, &now, nil, db.dialect.clock)
	return now.Time, wrap("read the database's clock", session.ErrUnavailable, err)
}

func newClock(ctx context.Context, sample func(context.Context) (time.Time, error)) (*Clock, error) {
	c := &Clock{sample: sample, start: time.Now()}
	for range 3 { // three samples, because each of them can reduce the clock's error
		if err := c.adjust(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Now returns the time in UTC, to the microsecond.
func (c *Clock) Now() time.Time {
	return time.Unix(0, c.offset.Load()+int64(time.Since(c.start))).UTC().Truncate(time.Microsecond)
}

// Run samples the database's clock every 30 seconds until ctx is done. While the database does not
// answer, the clock counts on from the last sample.
func (c *Clock) Run(ctx context.Context) {
	ticker := time.NewTicker(30 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = c.adjust(ctx) // after an error, the clock continues without a new sample
		}
	}
}

// adjust takes one sample of the database's clock. The database read its clock at some moment
// between our question and its answer, so the true offset has a lower and an upper bound. An offset
// within these bounds is kept, and any other is set to the nearer bound. Slow answers thus cause no
// jitter.
func (c *Clock) adjust(ctx context.Context) error {
	asked := time.Since(c.start)
	now, err := c.sample(ctx)
	answered := time.Since(c.start)
	if err != nil {
		return err
	}
	low, high := now.UnixNano()-int64(answered), now.UnixNano()-int64(asked)
	offset := c.offset.Load()
	if offset == 0 {
		offset = low + (high-low)/2
	}
	c.offset.Store(min(max(offset, low), high))
	return nil
}
