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
)

// A dialect holds everything that differs between Postgres and SQLite.
type dialect struct {
	driver     string // name of the database driver for sqlx
	migrations string // directory of the embedded migration files

	// spell translates "?" placeholders and the locks and casts of Postgres into this database's
	// SQL.
	spell func(text string) string

	clock        *statement // reads the database's clock; nil if the machine's clock is used
	version      *statement // reads the server's version
	versionTable *statement // returns 1 if the table of applied migrations exists, otherwise 0

	// unavailable reports whether err means that the database could not answer and may answer
	// later.
	unavailable func(err error) bool
	// conflict reports whether err means that the transaction can be run again: the database rolled
	// it back because of another transaction, or a prepared statement is outdated.
	conflict func(err error) bool
	// unique reports whether err means that a value is not unique. It returns the name of the
	// violated constraint, or "" if the database does not report it.
	unique func(err error) (constraint string, ok bool)
}

var postgres = dialect{
	driver:     "postgres",
	migrations: "migrations/postgres",
	spell: func(text string) string {
		text = strings.ReplaceAll(text, "in_network(ip, ?)", "CASE WHEN ip = '' THEN false ELSE ip::inet <<= ?::inet END")
		return sqlx.Rebind(sqlx.DOLLAR, text)
	},

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
		return pq.As(err, pqerror.TRSerializationFailure, pqerror.TRDeadlockDetected) != nil || isOutdated(err)
	},
	unique: func(err error) (string, bool) {
		if e := pq.As(err, pqerror.UniqueViolation); e != nil {
			return e.Constraint, true
		}
		return "", false
	},
}

// isOutdated reports whether a prepared statement failed because the type of a column was changed
// ("cached plan must not change result type"), or because the server does not know the statement or
// knows another one by its name, as behind a pooler. Postgres did not run the statement then.
func isOutdated(err error) bool {
	return pq.As(err, pqerror.FeatureNotSupported, pqerror.InvalidSQLStatementName, pqerror.DuplicatePstatement) != nil
}

// unavailableClasses are the classes of Postgres errors after which a retry may succeed:
// connection, authorization (while a password is being changed), rollback, resources, operator
// intervention, system.
var unavailableClasses = []pqerror.Class{"08", "28", "40", "53", "57", "58"}

var sqlite = dialect{
	driver:     "sqlite",
	migrations: "migrations/sqlite",

	// SQLite needs no row locks, because a write transaction locks the whole database from BEGIN
	// IMMEDIATE on. It needs no casts, because times are stored as text.
	spell: strings.NewReplacer(
		" FOR NO KEY UPDATE OF sessions SKIP LOCKED", "",
		" FOR UPDATE SKIP LOCKED", "",
		" FOR UPDATE OF sessions", "",
		" FOR UPDATE", "",
		" FOR SHARE", "",
		"::timestamptz", "",
		"::bigint", "",
		"::bytea", "",
		nowMS, "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
	).Replace,

	// sqlite.go sets unavailable and unique, because they need the driver.
	conflict: func(error) bool { return false },
}

func init() {
	sqlx.BindDriver(sqlite.driver, sqlx.QUESTION)
	postgres.clock = newStatement(`SELECT clock_timestamp()`)
	postgres.version = newStatement(`SHOW server_version`)
	sqlite.version = newStatement(`SELECT sqlite_version()`)
	postgres.versionTable = newStatement(`SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'goose_db_version'`)
	sqlite.versionTable = newStatement(`SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'goose_db_version'`)
}
