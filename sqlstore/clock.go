package sqlstore

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Clock is the database's clock, the one that all replicas share. Between two
// looks at it the process's monotonic clock counts on, so that a replica whose
// wall clock jumps agrees with the others all the same. With SQLite, where
// there is one machine, it is that machine's clock.
type Clock struct {
	sample func(ctx context.Context) (time.Time, error)
	start  time.Time    // carries the monotonic clock's reading
	offset atomic.Int64 // nanoseconds from the Unix epoch to start, by the database's clock
}

const (
	clockEvery   = 30 * time.Second
	clockSamples = 3 // at the start; each can only narrow the error
)

// Clock reads the database's clock; [session.ErrUnavailable] when it does not
// answer. It stays right as long as [Clock.Run] runs.
func (db *DB) Clock(ctx context.Context) (*Clock, error) {
	return newClock(ctx, db.now)
}

func (db *DB) now(ctx context.Context) (time.Time, error) {
	if db.dialect.clock == nil {
		return time.Now().Round(0), nil
	}
	var now stamp
	err := db.get(ctx, &now, nil, db.dialect.clock)
	return now.Time, wrap("read the database's clock", session.ErrUnavailable, err)
}

func newClock(ctx context.Context, sample func(context.Context) (time.Time, error)) (*Clock, error) {
	c := &Clock{sample: sample, start: time.Now()}
	for range clockSamples {
		if err := c.look(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Now is the time in UTC, to the microsecond.
func (c *Clock) Now() time.Time {
	return time.Unix(0, c.offset.Load()+int64(time.Since(c.start))).UTC().Truncate(time.Microsecond)
}

// Run looks at the database's clock every 30 seconds until ctx is done. While the
// database does not answer, the clock goes on from what it knew.
func (c *Clock) Run(ctx context.Context) {
	ticker := time.NewTicker(clockEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = c.look(ctx) // whoever needs the database finds out by itself
		}
	}
}

// look takes one sample. The database read its clock at some moment between the
// question and the answer, so the offset lies between two bounds: one that is
// within them already is left alone, another goes to the nearer bound. So
// slow answers do not make the clock jitter.
func (c *Clock) look(ctx context.Context) error {
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
