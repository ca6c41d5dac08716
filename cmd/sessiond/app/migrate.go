package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/sqlstore"
)

func migrateCommand(env lookupEnv) *cobra.Command {
	var s Settings
	c := &cobra.Command{
		Use:     migrateVerb,
		GroupID: prepareGroup,
		Short:   "Apply the database migrations and exit",
		Long:    "Apply the migrations that the database lacks, and exit. Several replicas may run it at once.",
		Example: "  sessiond migrate --database-url-file database-url",
		Args:    noArguments,
		RunE:    func(c *cobra.Command, _ []string) error { return s.migrate(c.Context(), c.OutOrStdout()) },
	}
	s.addFlags(c, env)
	return c
}

// migrate applies the migrations that the database lacks. Replicas may run it at the same time,
// because a lock in the database makes them run one after another.
func (s *Settings) migrate(ctx context.Context, stdout io.Writer) (err error) {
	db, err := s.openDatabase(ctx)
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

// openDatabase opens the database for a verb that needs nothing else.
func (s *Settings) openDatabase(ctx context.Context) (*sqlstore.DB, error) {
	if err := s.require("database-url", s.DatabaseURL); err != nil {
		return nil, err
	}
	if err := s.checkDatabaseURL(ctx); err != nil {
		return nil, err
	}
	db, err := s.connect(ctx, nil)
	return db, settingError("database-url", err)
}
