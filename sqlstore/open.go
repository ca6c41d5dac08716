package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/sessiond/sessiond/session"
)

// Options limit the resources of a DB. The zero value has useful defaults.
type Options struct {
	// MaxConns limits one replica's connections to Postgres, besides two for the epochs. The default is
	// 20. All replicas together must stay below the server's max_connections. SQLite uses one.
	MaxConns int
	// QueryTimeout limits one method call with its retries. On Postgres it also limits each
	// statement, each wait for a lock and each pause within a transaction. The default is 2 seconds.
	QueryTimeout time.Duration
	// PoolTimeout limits how long a method call on Postgres waits for one of the connections. The
	// default is 200 ms. A call that waits longer returns ErrUnavailable. Otherwise requests would
	// pile up while all connections wait for a lock.
	PoolTimeout time.Duration
	// OpenPool opens a pool of connections. The default is [sql.OpenDB]. A program that traces SQL
	// wraps the connector in OpenPool. The connections of Migrate are not opened by it.
	OpenPool func(driver.Connector) *sql.DB
}

func (o Options) withDefaults() Options {
	o.MaxConns = cmp.Or(o.MaxConns, 20)
	o.QueryTimeout = cmp.Or(o.QueryTimeout, 2*time.Second)
	o.PoolTimeout = cmp.Or(o.PoolTimeout, 200*time.Millisecond)
	if o.OpenPool == nil {
		o.OpenPool = sql.OpenDB
	}
	return o
}

// DB is a database of users and sessions. It is safe for concurrent use.
type DB struct {
	sql     *sqlx.DB
	dialect *dialect
	timeout time.Duration // limits one method call; see Options.QueryTimeout
	closed  atomic.Bool

	// epochs runs the statements of epochs.go on connections of its own. If they had to wait for
	// other statements, trust in Redis would go on although other replicas can begin an epoch. It is
	// nil for SQLite.
	epochs *DB

	places         chan struct{} // has a place for each connection; nil for SQLite
	placeTimeout   time.Duration // see Options.PoolTimeout
	poolTimeouts   atomic.Uint64 // how many method calls waited longer than placeTimeout
	perTransaction string        // see postgresURL.perTransaction

	// migrator opens connections without time limits for Migrate. It is nil for SQLite.
	migrator func() (*sql.DB, error)

	prepared sync.Map // maps each *statement to its prepared *sqlx.Stmt
}

// Open opens the database at rawURL, "postgres://…" or "sqlite:PATH". It returns
// [session.ErrUnavailable] if the database does not answer. [DB.Migrate] creates the tables.
//
// The default sslmode is verify-full, so that connections to Postgres are encrypted and the
// server's certificate is verified. If the SQLite file does not exist, Open creates a file that
// only its owner can read. The file's directory must exist. A program with the build tag production
// has no SQLite.
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
		err = errors.New("sqlstore: the database URL must be like postgres://HOST/NAME or sqlite:PATH")
	}
	if err != nil {
		return nil, err
	}
	err = db.Ping(ctx)
	if err == nil && db.epochs != nil {
		err = db.epochs.Ping(ctx) // connect now, because a poll has little time for it
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func openPostgres(rawURL string, opts Options) (*DB, error) {
	p, err := postgresConfig(rawURL, opts.QueryTimeout)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: database URL: %w", err)
	}
	db := newPostgres(p, opts)
	opts.MaxConns = 2
	db.epochs = newPostgres(p, opts)
	db.migrator = func() (*sql.DB, error) {
		unlimited, err := pq.NewConnectorConfig(p.withoutLimits())
		if err != nil {
			return nil, fmt.Errorf("sqlstore: connect for the migrations: %w", err)
		}
		return sql.OpenDB(unlimited), nil
	}
	return db, nil
}

func newPostgres(p postgresURL, opts Options) *DB {
	pool := opts.OpenPool(connector{p.config, make(chan struct{}, maxConnecting)})
	pool.SetMaxOpenConns(opts.MaxConns)
	pool.SetMaxIdleConns(opts.MaxConns) // a new connection costs several round trips and, in Postgres, a process
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(30 * time.Minute) // replace old connections, so that a server that was added later gets some of them
	db := newDB(pool, &postgres, opts)
	db.places, db.placeTimeout, db.perTransaction = make(chan struct{}, opts.MaxConns), opts.PoolTimeout, p.perTransaction
	return db
}

func newDB(pool *sql.DB, d *dialect, opts Options) *DB {
	db := &DB{sql: sqlx.NewDb(pool, d.driver), dialect: d, timeout: opts.QueryTimeout}
	db.sql.Mapper = mapper
	return db
}

// Sessions returns the ledger of sessions that is stored in this database.
func (db *DB) Sessions() *Sessions { return &Sessions{db, cmp.Or(db.epochs, db)} }

// Users returns the user store in this database.
func (db *DB) Users() *Users { return &Users{db} }

// Events returns the audit trail in this database.
func (db *DB) Events() *Events { return &Events{db} }

// Clients returns the store of machine clients in this database.
func (db *DB) Clients() *Clients { return &Clients{db} }

// Ping returns [session.ErrUnavailable] if the database does not answer.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, db.timeout)
	defer cancel()
	return wrap("ping the database", session.ErrUnavailable, db.failure(ctx, db.sql.PingContext(ctx)))
}

// Version returns the version of Postgres or SQLite, for example "15.18" or "3.50.4".
func (db *DB) Version(ctx context.Context) (string, error) {
	var version string
	err := db.get(ctx, &version, nil, db.dialect.version)
	return version, wrap("read the database's version", session.ErrUnavailable, err)
}

// Stats returns statistics of the pool of database connections.
func (db *DB) Stats() sql.DBStats { return db.sql.Stats() }

// Close closes all connections. Every later call fails because the database counts as unavailable.
func (db *DB) Close() error {
	db.closed.Store(true)
	if db.epochs != nil {
		_ = db.epochs.Close() // it fails if Postgres has cut an idle connection
	}
	// A connection that the server or the network has cut cannot be closed, and need not be.
	if err := db.sql.Close(); err != nil && !errors.As(err, new(*net.OpError)) {
		return fmt.Errorf("sqlstore: close the database: %w", err)
	}
	return nil
}
