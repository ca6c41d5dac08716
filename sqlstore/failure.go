package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// A failure is an error of the database or the network, not an answer such as "not found".
type failure struct {
	err         error
	unavailable bool // the database could not answer, and a later retry may succeed
	conflict    bool // nothing was committed, and the transaction can be run again
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// failure classifies an error of the database driver. It returns nil for nil. If the caller
// canceled ctx, it returns context.Canceled. After ctx's deadline, the database is unavailable.
func (db *DB) failure(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return &failure{err: context.Canceled}
	case ctx.Err() != nil, db.closed.Load(), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone):
		return &failure{err: err, unavailable: true}
	default:
		return &failure{err: err, unavailable: db.dialect.unavailable(err), conflict: db.dialect.conflict(err)}
	}
}
