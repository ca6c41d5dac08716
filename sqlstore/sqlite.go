//go:build !production

package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"time"

	sqlitedriver "modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

func init() {
	sqlitedriver.MustRegisterDeterministicScalarFunction("in_network", 2, func(_ *sqlitedriver.FunctionContext, args []driver.Value) (driver.Value, error) {
		ip, _ := args[0].(string)
		within, _ := args[1].(string)
		return inNetwork(ip, within), nil
	})
	sqlite.unavailable = func(err error) bool {
		return slices.Contains(sqliteUnavailable, sqliteCode(err)&0xff)
	}
	sqlite.unique = func(err error) (string, bool) {
		code := sqliteCode(err)
		return "", code == sqlitelib.SQLITE_CONSTRAINT_UNIQUE || code == sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY
	}
}

var sqliteUnavailable = []int{
	sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED, sqlitelib.SQLITE_PROTOCOL, sqlitelib.SQLITE_INTERRUPT,
	sqlitelib.SQLITE_IOERR, sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_FULL, sqlitelib.SQLITE_NOMEM, sqlitelib.SQLITE_READONLY,
}

// sqliteCode returns SQLite's extended result code of err, or 0 if err is not from SQLite.
func sqliteCode(err error) int {
	if e, ok := errors.AsType[*sqlitedriver.Error](err); ok {
		return e.Code()
	}
	return 0
}

func openSQLite(path string, opts Options) (*DB, error) {
	// Create the file here, because SQLite would create it with permissions that allow every user
	// of the machine to read the password hashes.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // G304: the path is from the operator's configuration
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: open the SQLite file: %w", err)
	}
	registered, err := sql.Open("sqlite", "") // only to get the driver; it opens no connection
	if err != nil {
		return nil, fmt.Errorf("sqlstore: open the SQLite file: %w", err)
	}
	pool := opts.OpenPool(sqliteConnector{registered.Driver(), sqliteDSN(path, opts.QueryTimeout)})
	_ = registered.Close() // it has no connection
	// One connection is enough, because SQLite has only one writer at a time. Callers wait in the
	// pool's fair queue. A second connection would have to poll for the write lock.
	pool.SetMaxOpenConns(1)
	return newDB(pool, &sqlite, opts), nil
}

// sqliteConnector opens connections to an SQLite file, as [sql.Open] does.
type sqliteConnector struct {
	driver driver.Driver
	dsn    string
}

func (c sqliteConnector) Driver() driver.Driver { return c.driver }

// Connect implements [driver.Connector].
func (c sqliteConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }

func sqliteDSN(path string, timeout time.Duration) string {
	query := url.Values{
		"_txlock":      {"immediate"},
		"_time_format": {"sqlite"},
		"_timezone":    {"UTC"},
		"_dqs":         {"false"},
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", timeout.Milliseconds()),
			"journal_mode(WAL)",
			"synchronous(FULL)", // otherwise a power failure could undo a revocation
			"foreign_keys(1)",
			"cache_size(-1024)", // a negative number is a size in KiB
			"journal_size_limit(4194304)",
		},
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

// inNetwork reports whether an address or network, as sessions have it, is in a network. On Postgres, the
// dialect writes it as an operator.
func inNetwork(ip, within string) bool {
	outer, err := netip.ParsePrefix(within)
	if err != nil {
		return false
	}
	inner, err := netip.ParsePrefix(ip)
	if err != nil {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return false
		}
		inner = netip.PrefixFrom(addr, addr.BitLen())
	}
	return inner.Bits() >= outer.Bits() && outer.Contains(inner.Addr())
}
