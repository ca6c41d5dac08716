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

// importProgress is after how many lines an import says how far it is.
const importProgress = 1000

// runImport adds users with the password hashes they have elsewhere.
func runImport(ctx context.Context, args []string, env lookupEnv, stdout, stderr io.Writer) (err error) {
	var in, format, peppers string
	db, s, err := openDatabase(ctx, "import", args, env, stderr, func(f *flags) {
		f.StringVar(&in, "in", "", "file of users: .csv with a header, or .jsonl; - is standard input.\n"+
			"Columns, or members: username, email, password_hash; and, where wanted, first_name, last_name,\n"+
			"email_verified (true or false), created_at (RFC 3339)")
		f.StringVar(&format, "format", "", "csv or jsonl (default: by the file's name)")
		f.StringVar(&peppers, "password-pepper-file", "", "peppers of hashes that this service made")
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if format == "" {
		format = strings.TrimPrefix(filepath.Ext(in), ".")
	}
	if in == "" || format != "csv" && format != "jsonl" {
		return errors.New("--in FILE.csv or FILE.jsonl is required; --format names the form of any other file")
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
		defer file.Close() //nolint:errcheck // only read
	}
	report, err := identity.Import(ctx, file, format, db.Users(), hasher, time.Now, issuer.NewID, func(done int) {
		if done%importProgress == 0 {
			fmt.Fprintf(stderr, "%d lines\n", done)
		}
	})
	for _, p := range report.Problems {
		fmt.Fprintf(stderr, "line %d: %s\n", p.Line, p.Detail)
	}
	fmt.Fprintf(stdout, "%d users imported, %d lines skipped\n", report.Imported, report.Skipped)
	if err == nil && report.Skipped > 0 {
		err = fmt.Errorf("%d lines were skipped", report.Skipped)
	}
	return err
}
