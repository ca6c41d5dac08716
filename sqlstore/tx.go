package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"
)

// tx is a transaction. Its methods run SQL statements in the transaction. The DB methods with the
// same names run a single statement without a transaction.
type tx struct {
	db *DB
	tx sqlx.ExtContext // a *sqlx.Tx, or a *sqlx.DB for a single statement without a transaction

	prepares bool // whether statements that were prepared before may be used
}

const (
	// maxAttempts limits how many times a transaction is run if it has conflicts.
	maxAttempts = 3
	// retryDelay lets the other transactions of a deadlock finish before a retry. Otherwise the
	// retry would take the same locks before the others wake up.
	retryDelay = 10 * time.Millisecond
)

// inTx runs fn in a transaction and commits if fn returns nil. If another transaction or an outdated
// statement causes a rollback, inTx runs fn again. Therefore fn must have no effect besides its use of
// tx, except that it may assign variables anew in each run.
//
// inTx first prepares the statements in prepare. Frequent transactions use this, because it halves
// Postgres's work for a login or a refresh.
func (db *DB) inTx(ctx context.Context, fn func(ctx context.Context, tx *tx) error, prepare ...*statement) error {
	return db.run(ctx, db.timeout, prepare, func(ctx context.Context, prepares bool) error { return db.attempt(ctx, prepares, fn) })
}

// longTx multiplies the time limit of a transaction that erases the addresses of an account. Otherwise an
// account with a hundred thousand logins could not be deleted.
const longTx = 4

// inLongTx is like inTx, but the transaction may take longTx times as long. Each statement keeps its usual
// time limit.
func (db *DB) inLongTx(ctx context.Context, fn func(ctx context.Context, tx *tx) error) error {
	return db.run(ctx, longTx*db.timeout, nil, func(ctx context.Context, prepares bool) error { return db.attempt(ctx, prepares, fn) })
}

// run waits for a connection and calls f, which may use one connection at a time. If f returns a
// conflict, run calls f again. Only the first call may use prepared statements, and with PgBouncer
// none, because PgBouncer may send the uses of one statement to different servers.
func (db *DB) run(ctx context.Context, timeout time.Duration, prepare []*statement, f func(ctx context.Context, prepares bool) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if db.places != nil {
		if err := db.enter(ctx); err != nil {
			return err
		}
		defer func() { <-db.places }()
	}
	for attempt := 1; ; attempt++ {
		prepares := attempt == 1 && db.perTransaction == ""
		var err error
		if prepares {
			err = db.prepare(ctx, prepare)
		}
		if err == nil {
			err = f(ctx, prepares)
		}
		if f, ok := errors.AsType[*failure](err); !ok || !f.conflict || attempt == maxAttempts {
			return err
		}
		select {
		case <-ctx.Done():
			return db.failure(ctx, err)
		case <-time.After(retryDelay):
		}
	}
}

var errPoolBusy = errors.New("all connections to the database are in use")

// enter takes a place in db.places.
func (db *DB) enter(ctx context.Context) error {
	late := time.NewTimer(db.placeTimeout)
	defer late.Stop()
	select {
	case db.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return db.failure(ctx, ctx.Err())
	case <-late.C:
		db.poolTimeouts.Add(1)
		return &failure{err: errPoolBusy, unavailable: true}
	}
}

func (db *DB) attempt(ctx context.Context, prepares bool, fn func(ctx context.Context, tx *tx) error) error {
	t, err := db.sql.BeginTxx(ctx, nil)
	if err != nil {
		return db.failure(ctx, err)
	}
	defer t.Rollback() //nolint:errcheck // Rollback does nothing after a commit; if Rollback fails, the connection is closed
	if db.perTransaction != "" {
		if _, err := t.ExecContext(ctx, db.perTransaction); err != nil {
			return db.failure(ctx, err)
		}
	}
	if err := fn(ctx, &tx{db, t, prepares}); err != nil {
		return err
	}
	return db.failure(ctx, t.Commit())
}

// get reads one row into dst. It returns notFound if there is no row.
func (t *tx) get(ctx context.Context, dst any, notFound error, s *statement, args ...any) error {
	if args = s.bind(args); !wellFormed(args...) {
		return notFound
	}
	var err error
	if prepared := t.prepared(ctx, s); prepared != nil {
		err = prepared.GetContext(ctx, dst, args...)
	} else {
		err = sqlx.GetContext(ctx, t.tx, dst, t.db.dialect.text(s), args...)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return notFound
	}
	return t.db.failure(ctx, err)
}

// list reads all rows into the slice dst.
func (t *tx) list(ctx context.Context, dst any, s *statement, args ...any) error {
	reflect.ValueOf(dst).Elem().SetZero() // drop the rows of an attempt that failed
	if args = s.bind(args); !wellFormed(args...) {
		return nil
	}
	if prepared := t.prepared(ctx, s); prepared != nil {
		return t.db.failure(ctx, prepared.SelectContext(ctx, dst, args...))
	}
	return t.db.failure(ctx, sqlx.SelectContext(ctx, t.tx, dst, t.db.dialect.text(s), args...))
}

// exec runs a statement that writes, and returns the number of rows that were written.
func (t *tx) exec(ctx context.Context, s *statement, args ...any) (int64, error) {
	if args = s.bind(args); !wellFormed(args...) {
		return 0, errMalformed
	}
	var result sql.Result
	var err error
	if prepared := t.prepared(ctx, s); prepared != nil {
		result, err = prepared.ExecContext(ctx, args...)
	} else {
		result, err = t.tx.ExecContext(ctx, t.db.dialect.text(s), args...)
	}
	if err != nil {
		return 0, t.db.failure(ctx, err)
	}
	n, err := result.RowsAffected()
	return n, t.db.failure(ctx, err)
}

// prepared returns the prepared form of s, or nil if s was not prepared before. In a transaction it
// cannot be prepared, because that needs a second connection, which SQLite does not have.
func (t *tx) prepared(ctx context.Context, s *statement) *sqlx.Stmt {
	prepared, ok := t.db.prepared.Load(s)
	if !ok || !t.prepares {
		return nil
	}
	if transaction, ok := t.tx.(*sqlx.Tx); ok {
		return transaction.StmtxContext(ctx, prepared)
	}
	return prepared.(*sqlx.Stmt)
}

// single runs f, which runs one statement. The statement needs no transaction, unless it must not be
// prepared: with PgBouncer, only a transaction has time limits. The statements in prepare are prepared
// once per connection, because a login, and a check whose session is unknown to Redis, wait for them.
func (db *DB) single(ctx context.Context, f func(ctx context.Context, tx *tx) error, prepare ...*statement) error {
	return db.run(ctx, db.timeout, prepare, func(ctx context.Context, prepares bool) error {
		if !prepares {
			return db.attempt(ctx, false, f)
		}
		return f(ctx, &tx{db, db.sql, true})
	})
}

// get is like [tx.get], but without a transaction.
func (db *DB) get(ctx context.Context, dst any, notFound error, s *statement, args ...any) error {
	return db.single(ctx, func(ctx context.Context, tx *tx) error { return tx.get(ctx, dst, notFound, s, args...) }, s)
}

// list is like [tx.list], but without a transaction.
func (db *DB) list(ctx context.Context, dst any, s *statement, args ...any) error {
	return db.single(ctx, func(ctx context.Context, tx *tx) error { return tx.list(ctx, dst, s, args...) }, s)
}

// exec runs one statement that writes, without a transaction. It does not prepare the statement, because
// the texts of some statements differ each time.
func (db *DB) exec(ctx context.Context, s *statement, args ...any) error {
	return db.single(ctx, func(ctx context.Context, tx *tx) error {
		_, err := tx.exec(ctx, s, args...)
		return err
	})
}

// prepare prepares statements at their first use. Statements cannot be prepared when the program
// starts, because the tables may not exist yet.
func (db *DB) prepare(ctx context.Context, statements []*statement) error {
	for _, s := range statements {
		if _, ok := db.prepared.Load(s); ok {
			continue
		}
		prepared, err := db.sql.PreparexContext(ctx, db.dialect.text(s))
		if err != nil {
			return db.failure(ctx, err)
		}
		if _, raced := db.prepared.LoadOrStore(s, prepared); raced {
			_ = prepared.Close()
		}
	}
	return nil
}

// errMalformed means that a caller wants to store a text that not every database accepts. A read with
// such a text as its key finds no row.
var errMalformed = errors.New("a stored text must be UTF-8 without NUL")

func wellFormed(args ...any) bool {
	for _, arg := range args {
		if s, ok := arg.(string); ok && (!utf8.ValidString(s) || strings.ContainsRune(s, 0)) {
			return false
		}
	}
	return true
}

// clean replaces characters of a client's text that a database cannot store. Otherwise a login
// could fail because of its User-Agent header.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// wrap adds the operation to an error of the database. If the database could not answer, the error
// also wraps unavailable, the ErrUnavailable of package session or identity. An error such as "not
// found" stays as it is.
func wrap(operation string, unavailable, err error) error {
	switch f, ok := errors.AsType[*failure](err); {
	case !ok:
		if errors.Is(err, errMalformed) {
			return fmt.Errorf("sqlstore: %s: %w", operation, err)
		}
		return err
	case f.unavailable:
		return fmt.Errorf("sqlstore: %s: %w: %w", operation, unavailable, f.err)
	default:
		return fmt.Errorf("sqlstore: %s: %w", operation, f.err)
	}
}
