package identity

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
)

func parseJSONLine(line []byte) (importedUser, error) {
	var u importedUser
	// The library's error may quote the line.
	if err := json.Unmarshal(line, &u, json.RejectUnknownMembers(true)); err != nil {
		return importedUser{}, errors.New("want a JSON object with known names, each at most once, in UTF-8")
	}
	return u, nil
}

// importColumns are the names of importedUser's fields. The first three are required.
var importColumns = func() (names []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[importedUser]()) {
		names = append(names, f.Tag.Get("json"))
	}
	return names
}()

// csvColumns has, for each column of a file, the index of its field in importedUser.
type csvColumns []int

func parseHeader(line []byte) (columns csvColumns, err error) {
	header, err := csvRecord(line)
	if err != nil {
		return nil, errors.New("header: want CSV")
	}
	for i, name := range header {
		field := slices.Index(importColumns, name)
		if field < 0 || slices.Contains(columns, field) {
			// The name is not quoted: in a file without a header, it belongs to a user.
			return nil, fmt.Errorf("header, column %d: want one of %s, each at most once", i+1, strings.Join(importColumns, ", "))
		}
		columns = append(columns, field)
	}
	for field, name := range importColumns[:3] {
		if !slices.Contains(columns, field) {
			return nil, fmt.Errorf("header: want a column %s", name)
		}
	}
	return columns, nil
}

func (c csvColumns) parse(line []byte) (u importedUser, err error) {
	values, err := csvRecord(line)
	switch {
	case err != nil:
		return importedUser{}, errors.New("want CSV")
	case len(values) != len(c):
		return importedUser{}, fmt.Errorf("%d columns: want %d as in the header", len(values), len(c))
	}
	for i, value := range values {
		field := reflect.ValueOf(&u).Elem().Field(c[i])
		if field.Kind() == reflect.String {
			field.SetString(value)
			continue
		}
		set, err := strconv.ParseBool(value)
		if err != nil && value != "" {
			return importedUser{}, fmt.Errorf("%s: want true or false", importColumns[c[i]])
		}
		field.SetBool(set)
	}
	return u, nil
}

// csvRecord parses a record of one line. No field may hold a line break, so that an open quote spoils its
// own line only and not the rest of the file.
func csvRecord(line []byte) ([]string, error) {
	return csv.NewReader(bytes.NewReader(line)).Read()
}

// maxImportLine is in bytes. The largest valid user fits in. Longer lines are skipped unread, to bound the
// memory.
const maxImportLine = 64 << 10

var errLineTooLong = fmt.Errorf("want at most %d bytes", maxImportLine)

// lineReader reads lines of bounded length and counts them.
type lineReader struct {
	r      *bufio.Reader
	number int // of the last line
}

// next returns the next line without its end. The line is valid until the next call. It returns io.EOF
// after the last line.
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
		line = bytes.TrimPrefix(line, []byte("\uFEFF")) // spreadsheets write a byte order mark
	}
	return line, nil
}
