package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"
)

// tx is a transaction. SQL outside of this file goes through its methods, or
// those of DB for a statement that is a transaction by itself.
type tx struct {
	db *DB
	tx *sqlx.Tx
}

const (
	// attempts is how often a transaction is run that others undo.
	attempts = 3
	// headStart is what the others get before it is run again: at once it would
	// take the same locks back before they wake up.
	headStart = 10 * time.Millisecond
)

// inTx runs fn in a transaction that is committed when fn returns nil. It runs
// it again when the database undid it for the sake of another transaction, so
// fn must leave nothing behind but what it does to tx and assigns anew.
//
// The statements named are prepared first. That is for transactions that are run
// all the time: for logins and refreshes it halves what they cost Postgres.
func (db *DB) inTx(ctx context.Context, fn func(ctx context.Context, tx *tx) error, often ...*statement) error {
	return db.inTxOf(ctx, db.timeout, fn, often...)
}

// patience is how much longer a transaction may take that ends all sessions of a
// user. Each is a row, and there may be a hundred thousand of them; whoever opened
// those must not keep the user from ending them.
const patience = 4

// inLongTx is inTx with patience. Each of its statements still has the time of one.
func (db *DB) inLongTx(ctx context.Context, fn func(ctx context.Context, tx *tx) error) error {
	return db.inTxOf(ctx, patience*db.timeout, fn)
}

func (db *DB) inTxOf(ctx context.Context, length time.Duration, fn func(ctx context.Context, tx *tx) error, often ...*statement) error {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	for _, s := range often {
		if _, err := db.prepare(ctx, s); err != nil {
			return db.failure(ctx, err)
		}
	}
	for attempt := 1; ; attempt++ {
		err := db.once(ctx, fn)
		if f, ok := errors.AsType[*failure](err); !ok || !f.conflict || attempt == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return db.failure(ctx, err)
		case <-time.After(headStart):
		}
	}
}

func (db *DB) once(ctx context.Context, fn func(ctx context.Context, tx *tx) error) error {
	t, err := db.sql.BeginTxx(ctx, nil)
	if err != nil {
		return db.failure(ctx, err)
	}
	defer t.Rollback() //nolint:errcheck // does nothing after a commit; otherwise the connection is dropped if it fails
	if err := fn(ctx, &tx{db: db, tx: t}); err != nil {
		return err
	}
	return db.failure(ctx, t.Commit())
}

// bound gives one call its time.
func (db *DB) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, db.timeout)
}

// get reads one row; none is returned when there is no such row.
func (t *tx) get(ctx context.Context, dst any, none error, s *statement, args ...any) error {
	if !wellFormed(args) {
		return none
	}
	var err error
	if prepared := t.prepared(ctx, s); prepared != nil {
		err = prepared.GetContext(ctx, dst, args...)
	} else {
		err = t.tx.GetContext(ctx, dst, t.db.dialect.text(s), args...)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return none
	}
	return t.db.failure(ctx, err)
}

// list reads rows into a slice.
func (t *tx) list(ctx context.Context, dst any, s *statement, args ...any) error {
	if !wellFormed(args) {
		return nil
	}
	return t.db.failure(ctx, t.tx.SelectContext(ctx, dst, t.db.dialect.text(s), args...))
}

// exec writes and tells how many rows it wrote.
func (t *tx) exec(ctx context.Context, s *statement, args ...any) (int64, error) {
	if !wellFormed(args) {
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

// prepared is a statement that was prepared before; nil when it was not. To
// prepare it now would take a second connection, which SQLite does not have.
func (t *tx) prepared(ctx context.Context, s *statement) *sqlx.Stmt {
	if prepared, ok := t.db.prepared.Load(s); ok {
		return t.tx.StmtxContext(ctx, prepared)
	}
	return nil
}

// get is [tx.get] in a transaction of its own, prepared once per connection: it
// is what a check waits for when the store does not know, and what a login begins with.
func (db *DB) get(ctx context.Context, dst any, none error, s *statement, args ...any) error {
	if !wellFormed(args) {
		return none
	}
	ctx, cancel := db.bound(ctx)
	defer cancel()
	prepared, err := db.prepare(ctx, s)
	if err == nil {
		err = prepared.GetContext(ctx, dst, args...)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return none
	}
	return db.failure(ctx, err)
}

// list is [tx.list] in a transaction of its own.
func (db *DB) list(ctx context.Context, dst any, s *statement, args ...any) error {
	if !wellFormed(args) {
		return nil
	}
	ctx, cancel := db.bound(ctx)
	defer cancel()
	prepared, err := db.prepare(ctx, s)
	if err == nil {
		err = prepared.SelectContext(ctx, dst, args...)
	}
	return db.failure(ctx, err)
}

// exec writes in a transaction of its own.
func (db *DB) exec(ctx context.Context, s *statement, args ...any) error {
	if !wellFormed(args) {
		return errMalformed
	}
	ctx, cancel := db.bound(ctx)
	defer cancel()
	_, err := db.sql.ExecContext(ctx, db.dialect.text(s), args...)
	return db.failure(ctx, err)
}

// prepare prepares a statement when it is first used, since at the start there
// may be no tables yet.
func (db *DB) prepare(ctx context.Context, s *statement) (*sqlx.Stmt, error) {
	if prepared, ok := db.prepared.Load(s); ok {
		return prepared.(*sqlx.Stmt), nil
	}
	prepared, err := db.sql.PreparexContext(ctx, db.dialect.text(s))
	if err != nil {
		return nil, err
	}
	if first, raced := db.prepared.LoadOrStore(s, prepared); raced {
		_ = prepared.Close()
		return first.(*sqlx.Stmt), nil
	}
	return prepared, nil
}

// errMalformed: a text that no database takes as a value. As a key it is not an
// error: nothing is stored under it.
var errMalformed = errors.New("text that is not UTF-8 or contains NUL")

func wellFormed(args []any) bool {
	for _, arg := range args {
		if s, ok := arg.(string); ok && (!utf8.ValidString(s) || strings.ContainsRune(s, 0)) {
			return false
		}
	}
	return true
}

// clean makes a text that came from a client storable: a login must not fail
// over the user agent it came from.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// wrap gives an error of a method its operation. Failures of the database
// become unavailable, the word that the caller's contract has for them; every
// other error is an answer and is returned as it is.
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
