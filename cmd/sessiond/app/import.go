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

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/session/issuer"
)

// runImport adds users with password hashes from another system.
func runImport(ctx context.Context, args []string, env lookupEnv, stdout, stderr io.Writer) (err error) {
	var in, format, peppers string
	db, s, err := openDatabase(ctx, "import", args, env, stderr, func(f *flags) {
		f.StringVar(&in, "in", "", "file of users: .csv with a header line, or .jsonl; - reads standard input.\n"+
			"Required columns or members: email, password_hash. Optional ones: username, first_name,\n"+
			"last_name, email_verified (true or false), created_at (RFC 3339)")
		f.StringVar(&format, "format", "", "format of the file: csv or jsonl (default: the extension of its name)")
		f.StringVar(&peppers, "password-pepper-file", "", "pepper file of the sessiond that made the password hashes, if it used one, or\n"+
			"that holds the signer key of Firebase")
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if format == "" {
		format = strings.TrimPrefix(filepath.Ext(in), ".")
	}
	if in == "" || format != "csv" && format != "jsonl" {
		return errors.New("--in FILE is required; unless its name ends in .csv or .jsonl, --format csv or --format jsonl is required, too")
	}
	s.BcryptCost, s.PasswordPepperFile = hashing.MinCost, peppers
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
