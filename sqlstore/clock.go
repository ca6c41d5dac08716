package sqlstore

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Clock is the database's clock, which all replicas share. Between two samples the process's
// monotonic clock counts on, so a replica whose wall clock jumps still agrees with the others. With
// SQLite there is only one machine, and Clock is that machine's clock.
type Clock struct {
	sample func(ctx context.Context) (time.Time, error)
	start  time.Time    // with a reading of the monotonic clock
	offset atomic.Int64 // nanoseconds from the Unix epoch to start, by the database's clock
}

// Clock reads the database's clock. It returns [session.ErrUnavailable] if the database does not
// answer. The clock stays right as long as [Clock.Run] runs.
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
	for range 3 { // each sample can only reduce the error
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
			_ = c.adjust(ctx) // every caller that needs the database gets the error too
		}
	}
}

// adjust takes one sample. The database read its clock at some moment between the question and the
// answer, which bounds the offset on both sides. An offset within the bounds stays, and any other
// moves to the nearer bound. Slow answers therefore do not make the clock jitter.
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
