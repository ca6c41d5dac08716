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

// tx is a transaction. SQL in other files runs by its methods, or by those of DB if
// a statement is a transaction of its own.
type tx struct {
	db *DB
	tx *sqlx.Tx
}

const (
	// maxAttempts is how often a transaction runs if other transactions cause a rollback.
	maxAttempts = 3
	// retryDelay lets the other transactions go first. Without it, the retry would take the same
	// locks before they wake up.
	retryDelay = 10 * time.Millisecond
)

// inTx runs fn in a transaction and commits it if fn returns nil. If another transaction causes a
// rollback, inTx runs fn again. The only effects of fn must therefore be those on tx, and variables
// that it sets in every run.
//
// The statements in prepare are prepared before. Preparing is for frequent transactions: it halves
// Postgres's work for a login or a refresh.
func (db *DB) inTx(ctx context.Context, fn func(ctx context.Context, tx *tx) error, prepare ...*statement) error {
	return db.inTxWithin(ctx, db.timeout, fn, prepare...)
}

// longTx is how much longer a transaction may take that revokes all sessions of a
// user. There may be a hundred thousand of them, and an attacker who opened them
// must not keep the user from revoking them.
const longTx = 4

// inLongTx is like inTx, but the transaction may take longTx times as long. The time limit of each
// statement stays the same.
func (db *DB) inLongTx(ctx context.Context, fn func(ctx context.Context, tx *tx) error) error {
	return db.inTxWithin(ctx, longTx*db.timeout, fn)
}

func (db *DB) inTxWithin(ctx context.Context, timeout time.Duration, fn func(ctx context.Context, tx *tx) error, prepare ...*statement) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for _, s := range prepare {
		if _, err := db.prepare(ctx, s); err != nil {
			return db.failure(ctx, err)
		}
	}
	for attempt := 1; ; attempt++ {
		err := db.attempt(ctx, fn)
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

func (db *DB) attempt(ctx context.Context, fn func(ctx context.Context, tx *tx) error) error {
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

// get reads one row into dst. It returns notFound if there is no row.
func (t *tx) get(ctx context.Context, dst any, notFound error, s *statement, args ...any) error {
	if args = s.bind(args); !wellFormed(args...) {
		return notFound
	}
	var err error
	if prepared := t.prepared(ctx, s); prepared != nil {
		err = prepared.GetContext(ctx, dst, args...)
	} else {
		err = t.tx.GetContext(ctx, dst, t.db.dialect.text(s), args...)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return notFound
	}
	return t.db.failure(ctx, err)
}

// list reads all rows into the slice dst.
func (t *tx) list(ctx context.Context, dst any, s *statement, args ...any) error {
	if args = s.bind(args); !wellFormed(args...) {
		return nil
	}
	return t.db.failure(ctx, t.tx.SelectContext(ctx, dst, t.db.dialect.text(s), args...))
}

// exec writes, and returns the number of rows that it wrote.
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

// prepared returns the prepared form of s, or nil if s was not prepared before the transaction.
// Preparing it now would need a second connection, which SQLite does not have.
func (t *tx) prepared(ctx context.Context, s *statement) *sqlx.Stmt {
	if prepared, ok := t.db.prepared.Load(s); ok {
		return t.tx.StmtxContext(ctx, prepared)
	}
	return nil
}

// get is like [tx.get], in a transaction of its own. The statement is prepared once per connection,
// because a login begins with one, and a check whose session is unknown waits for one.
func (db *DB) get(ctx context.Context, dst any, notFound error, s *statement, args ...any) error {
	if args = s.bind(args); !wellFormed(args...) {
		return notFound
	}
	ctx, cancel := context.WithTimeout(ctx, db.timeout)
	defer cancel()
	prepared, err := db.prepare(ctx, s)
	if err == nil {
		err = prepared.GetContext(ctx, dst, args...)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return notFound
	}
	return db.failure(ctx, err)
}

// list is like [tx.list], in a transaction of its own.
func (db *DB) list(ctx context.Context, dst any, s *statement, args ...any) error {
	if args = s.bind(args); !wellFormed(args...) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, db.timeout)
	defer cancel()
	prepared, err := db.prepare(ctx, s)
	if err == nil {
		err = prepared.SelectContext(ctx, dst, args...)
	}
	return db.failure(ctx, err)
}

// exec writes in a transaction of its own.
func (db *DB) exec(ctx context.Context, s *statement, args ...any) error {
	if args = s.bind(args); !wellFormed(args...) {
		return errMalformed
	}
	ctx, cancel := context.WithTimeout(ctx, db.timeout)
	defer cancel()
	_, err := db.sql.ExecContext(ctx, db.dialect.text(s), args...)
	return db.failure(ctx, err)
}

// prepare prepares a statement at its first use. When the program starts there may
// be no tables yet.
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

// errMalformed means that no database can store the text. A malformed key is not an
// error: nothing is stored under it.
var errMalformed = errors.New("want UTF-8 text without NUL")

func wellFormed(args ...any) bool {
	for _, arg := range args {
		if s, ok := arg.(string); ok && (!utf8.ValidString(s) || strings.ContainsRune(s, 0)) {
			return false
		}
	}
	return true
}

// clean makes a client's text storable, so that a login does not fail because of its user agent.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// wrap adds the operation to an error of a method. A failure of the database
// becomes unavailable, the error that the caller's contract has for it. Every other
// error is an answer and stays as it is.
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
