package sqlstore

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	sqlitedriver "modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// A dialect is all that differs between the databases.
type dialect struct {
	driver     string // as sqlx knows it
	migrations string // directory of the embedded files

	// spell turns a statement as we write it (placeholders "?", locks and casts
	// as in Postgres) into one that this database takes.
	spell func(text string) string

	clock        *statement // reads the database's clock; nil: the machine's own
	version      *statement // reads the server's version
	versionTable *statement // tells whether the table of migrations exists

	// unavailable: the database could not answer; asking again later may help.
	unavailable func(err error) bool
	// conflict: the transaction was undone because of another one and can be run again.
	conflict func(err error) bool
	// unique: a value was there already; by which constraint, if it is known.
	unique func(err error) (constraint string, ok bool)
}

var postgres = dialect{
	driver:     "postgres",
	migrations: "migrations/postgres",
	spell:      func(text string) string { return sqlx.Rebind(sqlx.DOLLAR, text) },

	unavailable: func(err error) bool {
		if e := pq.As(err); e != nil {
			switch e.Code {
			case pqerror.ReadOnlySQLTransaction, pqerror.LockNotAvailable:
				return true
			}
			return slices.Contains(unavailableClasses, e.Code.Class())
		}
		var connect *connectError
		var network net.Error
		return errors.As(err, &connect) || errors.As(err, &network) ||
			errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	},
	conflict: func(err error) bool {
		return pq.As(err, pqerror.TRSerializationFailure, pqerror.TRDeadlockDetected) != nil
	},
	unique: func(err error) (string, bool) {
		if e := pq.As(err, pqerror.UniqueViolation); e != nil {
			return e.Constraint, true
		}
		return "", false
	},
}

// unavailableClasses: connection, authorization (a password that is being
// changed), rollback, resources, operator's intervention, system.
var unavailableClasses = []pqerror.Class{"08", "28", "40", "53", "57", "58"}

var sqlite = dialect{
	driver:     "sqlite",
	migrations: "migrations/sqlite",

	// A write transaction holds the whole database from its BEGIN IMMEDIATE on,
	// so row locks have nothing to add; and times are text, so casts have neither.
	spell: strings.NewReplacer(
		" FOR NO KEY UPDATE OF sessions SKIP LOCKED", "",
		" FOR UPDATE SKIP LOCKED", "",
		" FOR UPDATE", "",
		" FOR SHARE", "",
		"::timestamptz", "",
	).Replace,

	unavailable: func(err error) bool {
		return slices.Contains(sqliteUnavailable, sqliteCode(err)&0xff)
	},
	conflict: func(error) bool { return false },
	unique: func(err error) (string, bool) {
		code := sqliteCode(err)
		return "", code == sqlitelib.SQLITE_CONSTRAINT_UNIQUE || code == sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY
	},
}

var sqliteUnavailable = []int{
	sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED, sqlitelib.SQLITE_PROTOCOL, sqlitelib.SQLITE_INTERRUPT,
	sqlitelib.SQLITE_IOERR, sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_FULL, sqlitelib.SQLITE_NOMEM, sqlitelib.SQLITE_READONLY,
}

// sqliteCode is the extended result code; 0 when err is not SQLite's.
func sqliteCode(err error) int {
	if e, ok := errors.AsType[*sqlitedriver.Error](err); ok {
		return e.Code()
	}
	return 0
}

func init() {
	sqlx.BindDriver(sqlite.driver, sqlx.QUESTION)
	postgres.clock = newStatement(`SELECT clock_timestamp()`)
	postgres.version = newStatement(`SHOW server_version`)
	sqlite.version = newStatement(`SELECT sqlite_version()`)
	postgres.versionTable = newStatement(`SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'goose_db_version'`)
	sqlite.versionTable = newStatement(`SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'goose_db_version'`)
}

// A statement is written once and spelled at start for each database.
type statement struct {
	postgres, sqlite string
}

func newStatement(text string) *statement {
	return &statement{postgres: postgres.spell(text), sqlite: sqlite.spell(text)}
}

func (d *dialect) text(s *statement) string {
	if d == &postgres {
		return s.postgres
	}
	return s.sqlite
}
