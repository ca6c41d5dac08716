package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/sessiond/sessiond/session"
)

// Options limit the resources of a DB. The zero value has useful defaults.
type Options struct {
	// MaxConns is the maximum number of connections of one replica to Postgres, 20 by default. All
	// replicas together must stay below the server's max_connections. SQLite always has one.
	MaxConns int
	// QueryTimeout limits one call of a method, including its transaction and
	// retries. On the server it limits each statement, each wait for a lock and
	// each pause within a transaction. The default is 2 seconds.
	QueryTimeout time.Duration
}

func (o Options) withDefaults() Options {
	o.MaxConns = cmp.Or(o.MaxConns, 20)
	o.QueryTimeout = cmp.Or(o.QueryTimeout, 2*time.Second)
	return o
}

// DB is a database of users and sessions. It is safe for concurrent use.
type DB struct {
	sql     *sqlx.DB
	dialect *dialect
	timeout time.Duration // of one call of a method
	closed  atomic.Bool

	// migrator opens connections without time limits; nil: sql has none.
	migrator func() (*sql.DB, error)

	prepared sync.Map // *statement → *sqlx.Stmt
}

// Open opens the database at rawURL, "postgres://…" or "sqlite:PATH". It returns
// [session.ErrUnavailable] if the database does not answer. [DB.Migrate] makes the tables.
//
// The default of sslmode is verify-full: Open sends nothing unencrypted, or to a
// server that it has not verified, unless the URL says so. If there is no SQLite
// file, Open makes one that only its owner can read. Its directory must exist.
func Open(ctx context.Context, rawURL string, opts Options) (*DB, error) {
	opts = opts.withDefaults()
	scheme, rest, _ := strings.Cut(rawURL, ":")
	var db *DB
	var err error
	switch scheme {
	case "postgres", "postgresql":
		db, err = openPostgres(rawURL, opts)
	case "sqlite":
		db, err = openSQLite(rest, opts)
	default:
		err = errors.New("sqlstore: want a database URL such as postgres://HOST/NAME or sqlite:PATH")
	}
	if err != nil {
		return nil, err
	}
	if err := db.Ping(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func openPostgres(rawURL string, opts Options) (*DB, error) {
	cfg, err := postgresConfig(rawURL, opts.QueryTimeout)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: database URL: %w", err)
	}
	pool := sql.OpenDB(connector{cfg, make(chan struct{}, maxConnecting)})
	pool.SetMaxOpenConns(opts.MaxConns)
	pool.SetMaxIdleConns(opts.MaxConns) // a new connection costs several round trips and, in Postgres, a process
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(30 * time.Minute) // so that load reaches a server that was started later
	db := newDB(pool, &postgres, opts)
	db.migrator = func() (*sql.DB, error) {
		unlimited, err := pq.NewConnectorConfig(withoutLimits(cfg))
		if err != nil {
			return nil, fmt.Errorf("sqlstore: connect to migrate: %w", err)
		}
		return sql.OpenDB(unlimited), nil
	}
	return db, nil
}

func openSQLite(path string, opts Options) (*DB, error) {
	// SQLite would make a file that every user of the machine can read, with the password hashes.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // G304: the path is the operator's own
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: open the SQLite file: %w", err)
	}
	pool, err := sql.Open("sqlite", sqliteDSN(path, opts.QueryTimeout))
	if err != nil {
		return nil, fmt.Errorf("sqlstore: open the SQLite file: %w", err)
	}
	// With one connection, callers wait in a fair queue and there is one page cache.
	// SQLite has only one writer at a time, and a second connection would have to poll.
	pool.SetMaxOpenConns(1)
	return newDB(pool, &sqlite, opts), nil
}

func newDB(pool *sql.DB, d *dialect, opts Options) *DB {
	db := &DB{sql: sqlx.NewDb(pool, d.driver), dialect: d, timeout: opts.QueryTimeout}
	db.sql.Mapper = mapper
	return db
}

// Sessions returns the ledger of sessions in this database.
func (db *DB) Sessions() *Sessions { return &Sessions{db} }

// Users returns the users in this database.
func (db *DB) Users() *Users { return &Users{db} }

// Ping returns [session.ErrUnavailable] if the database does not answer.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, db.timeout)
	defer cancel()
	return wrap("ping the database", session.ErrUnavailable, db.failure(ctx, db.sql.PingContext(ctx)))
}

// Version returns the server's version, for example "15.18" or "3.50.4".
func (db *DB) Version(ctx context.Context) (string, error) {
	var version string
	err := db.get(ctx, &version, nil, db.dialect.version)
	return version, wrap("read the database's version", session.ErrUnavailable, err)
}

// Stats returns statistics of the connections.
func (db *DB) Stats() sql.DBStats { return db.sql.Stats() }

// Close closes all connections. Every later call returns an unavailable error.
func (db *DB) Close() error {
	db.closed.Store(true)
	if err := db.sql.Close(); err != nil {
		return fmt.Errorf("sqlstore: close the database: %w", err)
	}
	return nil
}
