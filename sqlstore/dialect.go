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

// A dialect holds everything that differs between the databases.
type dialect struct {
	driver     string // name of the driver in sqlx
	migrations string // directory of the embedded files

	// spell turns a statement with placeholders "?" and Postgres's locks and casts into this
	// database's spelling.
	spell func(text string) string

	clock        *statement // reads the database's clock; nil: use the machine's
	version      *statement // reads the server's version
	versionTable *statement // counts the tables of migrations: 0 or 1

	// unavailable reports whether the database could not answer. Asking again later may help.
	unavailable func(err error) bool
	// conflict reports whether another transaction caused a rollback. The
	// transaction can be run again.
	conflict func(err error) bool
	// unique reports whether a value existed already, and returns the constraint if
	// its name is known.
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

// unavailableClasses are: connection, authorization (while a password is being changed), rollback,
// resources, operator intervention, system.
var unavailableClasses = []pqerror.Class{"08", "28", "40", "53", "57", "58"}

var sqlite = dialect{
	driver:     "sqlite",
	migrations: "migrations/sqlite",

	// A write transaction locks the whole database from BEGIN IMMEDIATE on, so row locks are not
	// needed. Times are text, so casts are not needed either.
	spell: strings.NewReplacer(
		" FOR NO KEY UPDATE OF sessions SKIP LOCKED", "",
		" FOR UPDATE SKIP LOCKED", "",
		" FOR UPDATE", "",
		" FOR SHARE", "",
		"::timestamptz", "",
		nowMS, "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
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

// sqliteCode returns the extended result code, or 0 if err is not an error of SQLite.
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
