package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// SQL returns the connection pool, so that tests can read and write tables directly.
func (db *DB) SQL() *sqlx.DB { return db.sql }

// ReadEpochs returns the statement that reads the epochs.
func (db *DB) ReadEpochs() string { return db.dialect.text(readEpochs) }

// ExplainRevokeAll returns Postgres's plan for the statement that ends all sessions of a user.
func (db *DB) ExplainRevokeAll(ctx context.Context, subject string, now time.Time) (plan string, err error) {
	var lines []string
	args := recordEnding.bind([]any{endingRow{UserID: subject, Generation: 1, At: at(now)}})
	err = db.sql.SelectContext(ctx, &lines, "EXPLAIN "+db.dialect.text(recordEnding), args...)
	return strings.Join(lines, "\n"), err
}

// LockUsers locks users for update in one transaction, one after the other. It calls before(i)
// before it locks user i, again in every retry of the transaction.
func (db *DB) LockUsers(ctx context.Context, before func(i int), ids ...string) error {
	return db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		for i, id := range ids {
			before(i)
			if _, err := tx.lockRow(ctx, forUpdate, id, errMalformed); err != nil {
				return err
			}
		}
		return nil
	})
}

// Show returns a setting of the server as a transaction sees it.
func (db *DB) Show(ctx context.Context, name string) (value string, err error) {
	err = db.inTx(ctx, func(ctx context.Context, tx *tx) error { return tx.get(ctx, &value, nil, newStatement("SHOW "+name)) })
	return value, err
}

// MigrateTo migrates the tables only to this version, as an earlier release did.
func (db *DB) MigrateTo(ctx context.Context, version int64) error {
	provider, err := db.provider(db.sql.DB)
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}

// NewClock returns a clock that follows the times that sample returns.
func NewClock(ctx context.Context, sample func(context.Context) (time.Time, error)) (*Clock, error) {
	return newClock(ctx, sample)
}

// SQLiteText returns the text with which SQLite stores a time.
func SQLiteText(t time.Time) string { return at(t).Format(sqliteTime) }

// ReadTime converts a value from a database driver to a time.
func ReadTime(src any) (time.Time, error) {
	var s timestamp
	err := s.Scan(src)
	return s.Time, err
}
