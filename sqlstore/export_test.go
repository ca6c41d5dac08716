package sqlstore

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"
)

// SQL lets tests read and write the tables.
func (db *DB) SQL() *sqlx.DB { return db.sql }

// LockUsers locks users for update, one after the other. It calls before for each of them, in every
// run of the transaction.
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

// MigrateTo is the Migrate of an earlier release.
func (db *DB) MigrateTo(ctx context.Context, version int64) error {
	provider, err := db.provider(db.sql.DB)
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}

// NewClock returns a clock with any source of samples.
func NewClock(ctx context.Context, sample func(context.Context) (time.Time, error)) (*Clock, error) {
	return newClock(ctx, sample)
}

// SQLiteText returns the text of a time in SQLite.
func SQLiteText(t time.Time) string { return at(t).Format(sqliteTime) }

// ReadTime reads a value from a driver as a time.
func ReadTime(src any) (time.Time, error) {
	var s timestamp
	err := s.Scan(src)
	return s.Time, err
}
