package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sessiond/sessiond/sqlstore"
)

// runMigrate applies the migrations that the database lacks. Replicas may run it at the same time,
// because a lock in the database makes them run one after another.
func runMigrate(ctx context.Context, args []string, env lookupEnv, stdout, stderr io.Writer) (err error) {
	db, _, err := openDatabase(ctx, "migrate", args, env, stderr, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	before, wanted, err := db.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "database migrated from %d to %d\n", before, wanted)
	return err
}

// openDatabase parses the arguments of a verb that uses only the database, and opens the database.
// The function more adds other flags of the verb; nil means that there are none.
func openDatabase(ctx context.Context, verb string, args []string, env lookupEnv, stderr io.Writer, more func(*flags)) (*sqlstore.DB, *Settings, error) {
	var s Settings
	f := newFlags(verb, stderr)
	s.database(f)
	if more != nil {
		more(f)
	}
	if err := f.parse(args, env); err != nil {
		return nil, nil, err
	}
	if err := s.require("database-url", s.DatabaseURL); err != nil {
		return nil, nil, err
	}
	if err := s.checkDatabaseURL(ctx); err != nil {
		return nil, nil, err
	}
	db, err := s.connect(ctx)
	return db, &s, settingError("database-url", err)
}
