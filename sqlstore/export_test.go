package sqlstore

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/sessiond/sessiond/session/issuer"
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

// ExplainLists returns Postgres's plans for the statements of the lists for operators, as if a scan of a whole
// table were the last resort.
func (db *DB) ExplainLists(ctx context.Context) (map[string]string, error) {
	now := time.Now()
	users := found{Least: "a", Below: afterAll, AfterName: "b", Status: "active", Role: "reader", Limit: 101}
	statements := map[string]*statement{
		"findByID": findByID, "findByStatus": findByStatus, "findByUsername": findByUsername, "findByEmail": findByEmail,
		"findByClaim": findByClaim, "findByRole": findByRole,
	}
	args := map[string][]any{}
	for name, s := range statements {
		args[name] = s.bind([]any{users})
	}
	for name, f := range map[string]issuer.Filter{
		"search": {}, "search by address": {Address: netip.MustParsePrefix("10.0.0.0/8"), UserAgent: "x", SeenBefore: now}, "search by user": {Subject: "u"},
	} {
		q := newSearch(f, now, "", 100)
		statements[name] = q.statement(selectSession, ` ORDER BY id DESC LIMIT :limit`)
		args[name] = statements[name].bind([]any{q})
		statements["count "+name] = q.statement(`SELECT count(*) FROM sessions`, "")
		args["count "+name] = statements["count "+name].bind([]any{q})
	}
	statements["end of a part"], args["end of a part"] = endOfPart, endOfPart.bind([]any{newSearch(issuer.Filter{}, now, "", scanned)})
	for name, s := range map[string]*statement{"events": sealedEvents, "new events": unsealedEvents} {
		statements[name], args[name] = s, []any{int64(5), 100}[2-strings.Count(s.postgres, "$"):]
	}
	statements["events of a type"], args["events of a type"] = sealedEventsOfType, []any{int64(5), "t", 100}
	statements["events of a user"], args["events of a user"] = sealedEventsOfUser, []any{"u", int64(5), "", "", 100}
	plans := map[string]string{}
	for name, s := range statements {
		err := db.inTx(ctx, func(ctx context.Context, tx *tx) error {
			if _, err := tx.tx.ExecContext(ctx, "SET LOCAL enable_seqscan = off"); err != nil {
				return err
			}
			var lines []string
			err := sqlx.SelectContext(ctx, tx.tx, &lines, "EXPLAIN "+db.dialect.text(s), args[name]...)
			plans[name] = strings.Join(lines, "\n")
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return plans, nil
}
