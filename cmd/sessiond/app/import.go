package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/session/issuer"
)

func importCommand(env lookupEnv) *cobra.Command {
	var s Settings
	c := &cobra.Command{
		Use:     importVerb,
		GroupID: prepareGroup,
		Short:   "Add users with their password hashes from CSV or JSON lines",
		Long: `Add users with their password hashes from a file of another system. The command skips lines with an
error, and says which they are.`,
		Example: "  sessiond import --database-url-file database-url --in users.csv\n" +
			"  zcat users.jsonl.gz | sessiond import --database-url-file database-url --in - --format jsonl",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return s.importUsers(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	s.addFlags(c, env)
	return c
}

// importUsers adds users with password hashes from another system.
func (s *Settings) importUsers(ctx context.Context, stdout, stderr io.Writer) (err error) {
	db, err := s.openDatabase(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	in, format := s.ImportFile, s.ImportFormat
	if format == "" {
		format = strings.TrimPrefix(filepath.Ext(in), ".")
	}
	if in == "" || format != "csv" && format != "jsonl" {
		return errors.New("--in FILE is required; unless its name ends in .csv or .jsonl, --format csv or --format jsonl is required, too")
	}
	s.BcryptCost = hashing.MinCost
	hasher, err := s.openHasher(false)
	if err != nil {
		return err
	}
	file := os.Stdin
	if in != "-" {
		if file, err = os.Open(in); err != nil { //nolint:gosec // G304: the operator names the file
			return err
		}
		defer file.Close() //nolint:errcheck // the file is only read
	}
	report, err := identity.Import(ctx, file, format, db.Users(), hasher, time.Now, issuer.NewID, func(done int) {
		if done%1000 == 0 {
			fmt.Fprintf(stderr, "%d lines\n", done)
		}
	})
	for _, p := range report.Problems {
		fmt.Fprintf(stderr, "line %d: %s\n", p.Line, p.Detail)
	}
	fmt.Fprintf(stdout, "%d users imported, %d lines skipped\n", report.Imported, report.Skipped)
	if report.PlainBcrypt > 0 {
		fmt.Fprintf(stdout, "%d users have plain bcrypt hashes, which cover only the first 72 bytes of a password, until they sign in\n", report.PlainBcrypt)
	}
	if err == nil && report.Skipped > 0 {
		err = fmt.Errorf("%d lines were skipped", report.Skipped)
	}
	return err
}
