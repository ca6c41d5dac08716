package sqlstore

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"
)

// SQL lets tests look at the rows themselves.
func (db *DB) SQL() *sqlx.DB { return db.sql }

// LockUsers locks users for update one after the other; before is called before
// each, in every run of the transaction.
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

// MigrateTo is Migrate as an earlier release made it.
func (db *DB) MigrateTo(ctx context.Context, version int64) error {
	provider, err := db.provider(db.sql.DB)
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}

// NewClock is a clock over any source of samples.
func NewClock(ctx context.Context, sample func(context.Context) (time.Time, error)) (*Clock, error) {
	return newClock(ctx, sample)
}

// SQLiteText is how a time stands in SQLite.
func SQLiteText(t time.Time) string { return at(t).Format(sqliteTime) }

// ReadTime reads a time as it comes from a driver.
func ReadTime(src any) (time.Time, error) {
	var s timestamp
	err := s.Scan(src)
	return s.Time, err
}
