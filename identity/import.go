package identity

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity/hashing"
)

// maxImportProblems is the largest number of skipped lines that an import report describes. The count in
// the report includes all skipped lines.
const maxImportProblems = 1000

// ImportReport counts the lines of an import file.
type ImportReport struct {
	Imported int
	Skipped  int             // lines that are invalid, or whose username or email is taken
	Problems []ImportProblem // the first 1000 skipped lines

	// PlainBcrypt is how many imported users have a plain bcrypt hash. Such a hash covers only the first 72
	// bytes of a password, until the user signs in.
	PlainBcrypt int
}

// ImportProblem says why a line was skipped. It never quotes the line.
type ImportProblem struct {
	Line   int // counts from 1; a CSV header is line 1
	Detail string
}

// Import adds users with their existing password hashes. It reads one user per line from r. The format is
// "csv", with a header line that names the columns, or "jsonl", with one JSON object per line. The fields are
//
//	email, password_hash                required
//	username                            may be empty or the email address
//	first_name, last_name               may be empty
//	email_verified                      true or false; false if empty
//	created_at                          RFC 3339; the current time if empty
//
// [hashing.Hasher.CheckHash] must accept the hash. The user's next login replaces the hash. A user without a
// username of their own gets "user-" and a random id, and signs in with the email address.
//
// Import skips and reports invalid lines, and lines whose username or email is taken. An interrupted
// import can therefore be run again. If progress is not nil, Import calls it after each line with the number
// of lines so far. Import returns an error only if r or the store fails, or if the format or the header is
// wrong. The report then covers the lines before the failure.
func Import(ctx context.Context, r io.Reader, format string, store Store, hasher *hashing.Hasher,
	now func() time.Time, newID func() string, progress func(done int),
) (ImportReport, error) {
	i := importer{store: store, hasher: hasher, now: now, newID: newID}
	lines := &lineReader{r: bufio.NewReaderSize(r, maxImportLine)}
	switch format {
	case "csv":
		header, err := lines.next()
		if err != nil {
			return i.report, fmt.Errorf("import: read the header: %w", err)
		}
		columns, err := parseHeader(header)
		if err != nil {
			return i.report, fmt.Errorf("import: %w", err)
		}
		i.parse = columns.parse
	case "jsonl":
		i.parse = parseJSONLine
	default:
		return i.report, fmt.Errorf("import: unknown format %q: want csv or jsonl", format)
	}
	for {
		line, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return i.report, nil
		case errors.Is(err, errLineTooLong):
			i.skip(lines.number, err)
		case err != nil:
			return i.report, fmt.Errorf("import: read the line after line %d: %w", lines.number, err)
		case len(line) > 0:
			if err := i.add(ctx, lines.number, line); err != nil {
				return i.report, fmt.Errorf("import: line %d: %w", lines.number, err)
			}
		}
		if progress != nil {
			progress(lines.number)
		}
	}
}

type importer struct {
	store  Store
	hasher *hashing.Hasher
	now    func() time.Time
	newID  func() string
	parse  func(line []byte) (importedUser, error)
	report ImportReport
}

// importedUser is one line of an import file. The JSON names are also the names of the CSV columns.
type importedUser struct {
	Email         string `json:"email"`
	PasswordHash  string `json:"password_hash"`
	Username      string `json:"username"`
	FirstName     string `json:"first_name"`
	LastName      string `json:"last_name"`
	EmailVerified bool   `json:"email_verified"`
	CreatedAt     string `json:"created_at"`
}

// add adds the user of a line to the store, or counts the line as skipped if it is invalid or the name is
// taken. It returns only errors of the store.
func (i *importer) add(ctx context.Context, number int, line []byte) error {
	u, err := i.user(line)
	if err != nil {
		i.skip(number, err)
		return nil
	}
	err = i.store.Create(ctx, u, u.UpdatedAt.Add(-confirmTTL), nil)
	switch {
	case errors.Is(err, ErrUsernameTaken), errors.Is(err, ErrEmailTaken):
		i.skip(number, err)
		return nil
	case err != nil:
		return err
	}
	i.report.Imported++
	if strings.HasPrefix(u.PasswordHash, "$2") {
		i.report.PlainBcrypt++
	}
	return nil
}

func (i *importer) skip(number int, why error) {
	i.report.Skipped++
	if len(i.report.Problems) < maxImportProblems {
		i.report.Problems = append(i.report.Problems, ImportProblem{Line: number, Detail: why.Error()})
	}
}

// user parses a line and returns the user, or an error that says what is wrong with the line.
func (i *importer) user(line []byte) (User, error) {
	in, err := i.parse(line)
	if err != nil {
		return User{}, err
	}
	if in.Username == "" || FoldEmail(in.Username) == FoldEmail(in.Email) {
		// A username must not be an address, because the address may change hands.
		in.Username = "user-" + i.newID()
	}
	now := i.now().UTC().Truncate(time.Microsecond)
	u := User{
		ID: i.newID(), Username: in.Username, Email: in.Email, FirstName: in.FirstName, LastName: in.LastName,
		PasswordHash: in.PasswordHash, PasswordVersion: 1, Status: StatusActive, CreatedAt: now, UpdatedAt: now,
	}
	if in.EmailVerified {
		u.EmailVerifiedAt = now
	}
	var errs FieldErrors
	errs.check("username", checkUsername(in.Username))
	errs.check("email", checkEmail(in.Email))
	errs.check("first_name", checkText(in.FirstName))
	errs.check("last_name", checkText(in.LastName))
	if in.PasswordHash == "" {
		errs.check("password_hash", &problem{CodeRequired, "a hash is required"})
	} else if err := i.hasher.CheckHash(in.PasswordHash); err != nil {
		errs.check("password_hash", &problem{CodeInvalid, err.Error()})
	}
	if in.CreatedAt != "" {
		at, err := time.Parse(time.RFC3339, in.CreatedAt)
		if err != nil || at.After(now) || at.Unix() < 0 {
			errs.check("created_at", &problem{CodeInvalid, "must be a past time in RFC 3339"})
		}
		u.CreatedAt = at.UTC().Truncate(time.Microsecond)
	}
	if len(errs) > 0 {
		return User{}, errors.New(errs.Details())
	}
	return u, nil
}
