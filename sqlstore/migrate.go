package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

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
	}
	provider, err := db.provider(pool)
	if err != nil {
		return fmt.Errorf("sqlstore: migrate: %w", err)
	}
	_, err = provider.Up(ctx)
	return wrap("migrate", session.ErrUnavailable, db.failure(ctx, err))
}

func (db *DB) provider(pool *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, db.dialect.migrations)
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if db.dialect == &sqlite {
		return goose.NewProvider(goose.DialectSQLite3, pool, files, options...)
	}
	// Try each second for five minutes to get the migration lock. Its id is the text "sessiond", so
	// that migrations of other programs on the same server do not wait for it.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(0x73657373696f6e64), lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, pool, files, append(options, goose.WithSessionLocker(locker))...)
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
