package identity

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sessiond/sessiond/identity/hashing"
)

const (
	// maxImportLine is in bytes. It holds the largest user there can be; what
	// is longer is skipped unread, so that memory stays bounded.
	maxImportLine = 64 << 10
	// maxImportProblems is how many problems a report names; it counts them all.
	maxImportProblems = 1000
)

// ImportReport tells what became of the lines of an import.
type ImportReport struct {
	Imported int
	Skipped  int             // lines that are no user, or one that exists already
	Problems []ImportProblem // of the skipped lines, the first 1000
}

// ImportProblem says why a line was skipped. It quotes nothing of it.
type ImportProblem struct {
	Line   int // from 1; the header of a CSV file counts
	Detail string
}

// Import adds users with the password hashes they have elsewhere. r holds one
// user a line: as "csv" with a header that names the columns, or as "jsonl", a
// JSON object each. The names are
//
//	username, email, password_hash      needed
//	first_name, last_name               may be empty
//	email_verified                      true or false; empty is false
//	created_at                          RFC 3339; empty is now
//
// A hash must satisfy [hashing.Hasher.CheckHash]; it is replaced at its user's next
// login. Lines that are wrong, and users whose name or address is taken, are skipped
// and reported, so that an import that was interrupted can be run again. progress, which may be
// nil, is told the number of lines done, after each. The error is about reading
// r or about the store, and the report tells what was done until then.
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
		return i.report, fmt.Errorf("import: unknown format %q: must be csv or jsonl", format)
	}
	for {
		line, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return i.report, nil
		case errors.Is(err, errLineTooLong):
			i.skip(lines.number, err.Error())
		case err != nil:
			return i.report, fmt.Errorf("import: read after line %d: %w", lines.number, err)
		case len(line) > 0:
			if err := i.line(ctx, lines.number, line); err != nil {
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

// importedUser is one line as it was written.
type importedUser struct {
	Username      string `json:"username"`
	Email         string `json:"email"`
	PasswordHash  string `json:"password_hash"`
	FirstName     string `json:"first_name"`
	LastName      string `json:"last_name"`
	EmailVerified bool   `json:"email_verified"`
	CreatedAt     string `json:"created_at"`
}

// line adds the user of a line or reports why not; its error is the store's.
func (i *importer) line(ctx context.Context, number int, line []byte) error {
	in, err := i.parse(line)
	if err != nil {
		i.skip(number, err.Error())
		return nil
	}
	u, err := i.user(in)
	if err != nil {
		i.skip(number, err.Error())
		return nil
	}
	err = i.store.Create(ctx, u, u.UpdatedAt.Add(-pendingTTL), nil)
	switch {
	case errors.Is(err, ErrUsernameTaken), errors.Is(err, ErrEmailTaken):
		i.skip(number, err.Error())
		return nil
	case err != nil:
		return err
	}
	i.report.Imported++
	return nil
}

func (i *importer) skip(number int, detail string) {
	i.report.Skipped++
	if len(i.report.Problems) < maxImportProblems {
		i.report.Problems = append(i.report.Problems, ImportProblem{Line: number, Detail: detail})
	}
}

func (i *importer) user(in importedUser) (User, error) {
	now := i.now().UTC().Truncate(time.Microsecond)
	created := now
	var errs FieldErrors
	errs.check("username", checkUsername(in.Username))
	errs.check("email", checkEmail(in.Email))
	errs.check("first_name", checkText(in.FirstName))
	errs.check("last_name", checkText(in.LastName))
	if in.PasswordHash == "" {
		errs.check("password_hash", &problem{CodeRequired, "a hash is needed"})
	} else if err := i.hasher.CheckHash(in.PasswordHash); err != nil {
		errs.check("password_hash", &problem{CodeInvalid, err.Error()})
	}
	if in.CreatedAt != "" {
		at, err := time.Parse(time.RFC3339, in.CreatedAt)
		if err != nil || at.After(now) || at.Unix() < 0 {
			errs.check("created_at", &problem{CodeInvalid, "must be in the form of RFC 3339, and in the past"})
		}
		created = at.UTC().Truncate(time.Microsecond)
	}
	if len(errs) > 0 {
		return User{}, errors.New(errs.details())
	}
	u := User{
		ID:              i.newID(),
		Username:        in.Username,
		Email:           in.Email,
		FirstName:       in.FirstName,
		LastName:        in.LastName,
		PasswordHash:    in.PasswordHash,
		PasswordVersion: 1,
		Status:          StatusActive,
		CreatedAt:       created,
		UpdatedAt:       now,
	}
	if in.EmailVerified {
		u.EmailVerifiedAt = now
	}
	return u, nil
}

func parseJSONLine(line []byte) (importedUser, error) {
	var u importedUser
	// The library's error may quote the line.
	if err := json.Unmarshal(line, &u, json.RejectUnknownMembers(true)); err != nil {
		return importedUser{}, errors.New("not a JSON object of the known names")
	}
	return u, nil
}

var importColumns = []string{
	"username", "email", "password_hash", "first_name", "last_name", "email_verified", "created_at",
}

// csvColumns are the names in the order of a file.
type csvColumns []string

func parseHeader(line []byte) (csvColumns, error) {
	header, err := csvRecord(line)
	if err != nil {
		return nil, errors.New("the header is not CSV")
	}
	seen := map[string]bool{}
	for i, name := range header {
		// A file without a header begins with a user: nothing of it is quoted.
		if !slices.Contains(importColumns, name) || seen[name] {
			return nil, fmt.Errorf("header, column %d: not one of %s, or twice", i+1, strings.Join(importColumns, ", "))
		}
		seen[name] = true
	}
	for _, name := range importColumns[:3] {
		if !seen[name] {
			return nil, fmt.Errorf("the header lacks %s", name)
		}
	}
	return header, nil
}

func (c csvColumns) parse(line []byte) (importedUser, error) {
	fields, err := csvRecord(line)
	switch {
	case err != nil:
		return importedUser{}, errors.New("not CSV")
	case len(fields) != len(c):
		return importedUser{}, fmt.Errorf("%d columns where the header has %d", len(fields), len(c))
	}
	var u importedUser
	for i, name := range c {
		switch value := fields[i]; name {
		case "username":
			u.Username = value
		case "email":
			u.Email = value
		case "password_hash":
			u.PasswordHash = value
		case "first_name":
			u.FirstName = value
		case "last_name":
			u.LastName = value
		case "email_verified":
			if u.EmailVerified, err = strconv.ParseBool(value); err != nil && value != "" {
				return importedUser{}, errors.New("email_verified: must be true or false")
			}
		case "created_at":
			u.CreatedAt = value
		}
	}
	return u, nil
}

// csvRecord reads a record of one line. No field may hold a line break, so a
// quote that was left open spoils its own line and not the rest of the file.
func csvRecord(line []byte) ([]string, error) {
	return csv.NewReader(bytes.NewReader(line)).Read()
}

// lineReader reads lines of bounded length and counts them.
type lineReader struct {
	r      *bufio.Reader
	number int // of the line read last
}

var errLineTooLong = fmt.Errorf("longer than %d bytes", maxImportLine)

// next returns the next line without its end, which stays as it is until the
// next call. io.EOF after the last one.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, io.EOF) && len(line) == 0 {
		return nil, io.EOF
	}
	l.number++
	tooLong := errors.Is(err, bufio.ErrBufferFull)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = l.r.ReadSlice('\n')
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if tooLong {
		return nil, errLineTooLong
	}
	line = bytes.TrimRight(line, "\r\n")
	if l.number == 1 {
		line = bytes.TrimPrefix(line, []byte("\uFEFF")) // as spreadsheets write it
	}
	return line, nil
}
