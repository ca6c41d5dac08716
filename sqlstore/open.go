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

// Options bound what a DB may use. The zero value has useful defaults.
type Options struct {
	// MaxConns is how many connections to Postgres one replica opens at most; 20
	// by default. Times the number of replicas it must stay below the server's
	// max_connections. SQLite always has one.
	MaxConns int
	// MaxIdle is how many of them stay open without work; MaxConns by default,
	// because opening one costs several round trips and, in Postgres, a process.
	MaxIdle int
	// MaxIdleTime closes a connection that had no work for so long; 5 minutes by
	// default.
	MaxIdleTime time.Duration
	// MaxLifetime closes a connection of that age, so that load finds its way to
	// a server that came up later; 30 minutes by default.
	MaxLifetime time.Duration
	// QueryTimeout bounds one call of a method, its transaction and retries
	// included, and on the server each statement, each wait for a lock and each
	// pause within a transaction; 2 seconds by default.
	QueryTimeout time.Duration
}

func (o Options) withDefaults() Options {
	o.MaxConns = cmp.Or(o.MaxConns, 20)
	o.MaxIdle = cmp.Or(o.MaxIdle, o.MaxConns)
	o.MaxIdleTime = cmp.Or(o.MaxIdleTime, 5*time.Minute)
	o.MaxLifetime = cmp.Or(o.MaxLifetime, 30*time.Minute)
	o.QueryTimeout = cmp.Or(o.QueryTimeout, 2*time.Second)
	return o
}

// DB is a database. It is safe for concurrent use.
type DB struct {
	sql     *sqlx.DB
	dialect *dialect
	timeout time.Duration
	closed  atomic.Bool

	// migrator opens connections without time limits; nil: sql serves.
	migrator func() (*sql.DB, error)

	prepared sync.Map // *statement → *sqlx.Stmt
}

// Open opens the database that rawURL names, "postgres://…" or "sqlite:PATH", and
// asks whether it answers; [session.ErrUnavailable] when it does not. The tables
// are made by [DB.Migrate].
//
// A Postgres URL without sslmode means sslmode=verify-full: nothing is sent in the
// clear, or to a stranger, unless the URL says so. A missing SQLite file is
// made, readable by its owner only; its directory must exist.
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
		err = errors.New("sqlstore: the database URL begins neither with postgres:// nor with sqlite: as it should")
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
	pool := sql.OpenDB(connector{cfg})
	pool.SetMaxOpenConns(opts.MaxConns)
	pool.SetMaxIdleConns(opts.MaxIdle)
	pool.SetConnMaxIdleTime(opts.MaxIdleTime)
	pool.SetConnMaxLifetime(opts.MaxLifetime)
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
	// SQLite would make the file readable by everybody, password hashes and all.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // G304: the path is the operator's own
	if err != nil {
		return nil, fmt.Errorf("sqlstore: open the SQLite file: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("sqlstore: open the SQLite file: %w", err)
	}
	pool, err := sql.Open("sqlite", sqliteDSN(path, opts.QueryTimeout))
	if err != nil {
		return nil, fmt.Errorf("sqlstore: open the SQLite file: %w", err)
	}
	// One connection queues its users fairly and needs one page cache. SQLite
	// has one writer at a time anyway, and makes a second one poll.
	pool.SetMaxOpenConns(1)
	return newDB(pool, &sqlite, opts), nil
}

func newDB(pool *sql.DB, d *dialect, opts Options) *DB {
	return &DB{
		sql:     sqlx.NewDb(pool, d.driver),
		dialect: d,
		timeout: opts.QueryTimeout,
	}
}

// Sessions returns the ledger of sessions in this database.
func (db *DB) Sessions() *Sessions { return &Sessions{db} }

// Users returns the users in this database.
func (db *DB) Users() *Users { return &Users{db} }

// Ping asks whether the database answers; [session.ErrUnavailable] when not.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := db.bound(ctx)
	defer cancel()
	return wrap("ping the database", session.ErrUnavailable, db.failure(ctx, db.sql.PingContext(ctx)))
}

// Version is the server's own word for its version, as "15.18" or "3.50.4".
func (db *DB) Version(ctx context.Context) (string, error) {
	var version string
	if err := db.get(ctx, &version, nil, db.dialect.version); err != nil {
		return "", wrap("read the database's version", session.ErrUnavailable, err)
	}
	return version, nil
}

// Stats tells what the connections are doing.
func (db *DB) Stats() sql.DBStats { return db.sql.Stats() }

// Close closes all connections. What is asked after it is unavailable.
func (db *DB) Close() error {
	db.closed.Store(true)
	if err := db.sql.Close(); err != nil {
		return fmt.Errorf("sqlstore: close the database: %w", err)
	}
	return nil
}
