package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// A failure is an error that came from the database or the way to it, as
// opposed to an answer such as "not found".
type failure struct {
	err         error
	unavailable bool // it says nothing about what was asked
	conflict    bool // the transaction was undone and can be run again
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// failure judges an error of the driver; nil for nil. A caller that left gets
// back its own context.Canceled; one whose time ran out learns that the database
// is unavailable.
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

// violates tells whether err is the violation of a unique constraint; on SQLite,
// which does not name it, of any.
func (db *DB) violates(err error, constraint string) bool {
	name, ok := db.dialect.unique(err)
	return ok && (name == "" || name == constraint)
}
