package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/sessiond/sessiond/session"
)

//go:embed migrations
var migrations embed.FS

// Migrate upgrades the tables to the version that this program needs. Several replicas may call it
// at the same time, because on Postgres they take turns. It has no time limit except ctx.
func (db *DB) Migrate(ctx context.Context) (err error) {
	pool := db.sql.DB
	if db.migrator != nil {
		if pool, err = db.migrator(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, pool.Close()) }()
		turn, err := pool.BeginTx(ctx, nil)
		if err == nil {
			defer turn.Rollback() //nolint:errcheck // closing the pool ends the transaction too
			_, err = turn.ExecContext(ctx, lockMigrations)
		}
		if err != nil {
			return wrap("wait for another migration", session.ErrUnavailable, db.failure(ctx, err))
		}
	}
	provider, err := db.provider(pool)
	if err != nil {
		return fmt.Errorf("sqlstore: migrate: %w", err)
	}
	_, err = provider.Up(ctx)
	return wrap("migrate", session.ErrUnavailable, db.failure(ctx, err))
}

// lockMigrations waits up to five minutes for the lock of migrations, which the transaction keeps. With
// PgBouncer, a session could not keep it. The number is the text "sessiond", so that migrations of other
// programs on the same server do not wait for it.
const lockMigrations = `SET LOCAL lock_timeout = '5min'; SET LOCAL statement_timeout = 0;
	SET LOCAL idle_in_transaction_session_timeout = 0; SELECT pg_advisory_xact_lock(x'73657373696f6e64'::bigint)`

func (db *DB) provider(pool *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, db.dialect.migrations)
	if err != nil {
		return nil, err
	}
	dialect := goose.DialectPostgres
	if db.dialect == &sqlite {
		dialect = goose.DialectSQLite3
	}
	return goose.NewProvider(dialect, pool, files, goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(db.emailKeys()))
}

var migratedTo = newStatement(`SELECT max(version_id) FROM goose_db_version`)

// MigrationStatus returns the current version of the tables (0 if there are no tables) and the
// version that this program needs. The current version may be higher while a newer release is
// rolled out. It returns [session.ErrUnavailable] if the database does not answer.
func (db *DB) MigrationStatus(ctx context.Context) (current, wanted int64, err error) {
	provider, err := db.provider(db.sql.DB)
	if err != nil {
		return 0, 0, fmt.Errorf("sqlstore: read the migrations: %w", err)
	}
	for _, source := range provider.ListSources() {
		wanted = max(wanted, source.Version)
	}
	var tables int
	err = db.get(ctx, &tables, nil, db.dialect.versionTable)
	if err == nil && tables > 0 {
		err = db.get(ctx, &current, nil, migratedTo)
	}
	return current, wanted, wrap("read the migration status", session.ErrUnavailable, err)
}
