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
	// Do not return the decoder's error, because it may quote the line.
	if err := json.Unmarshal(line, &u, json.RejectUnknownMembers(true)); err != nil {
		return importedUser{}, errors.New("want a JSON object with known names, each at most once, in UTF-8")
	}
	return u, nil
}

// importColumns are the names of importedUser's fields. The first two are required.
var importColumns = func() (names []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[importedUser]()) {
		names = append(names, f.Tag.Get("json"))
	}
	return names
}()

// csvColumns has, for each column of a CSV file, the index of its field in the struct importedUser.
type csvColumns []int

func parseHeader(line []byte) (columns csvColumns, err error) {
	header, err := csvRecord(line)
	if err != nil {
		return nil, errors.New("header: want CSV with the column names")
	}
	for i, name := range header {
		field := slices.Index(importColumns, name)
		if field < 0 || slices.Contains(columns, field) {
			// The error must not quote the column name. If the header is missing, the name is data of a
			// user.
			return nil, fmt.Errorf("header, column %d: want one of %s, each at most once", i+1, strings.Join(importColumns, ", "))
		}
		columns = append(columns, field)
	}
	for field, name := range importColumns[:2] {
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
		return importedUser{}, errors.New("want CSV on one line, with every quote closed")
	case len(values) != len(c):
		return importedUser{}, fmt.Errorf("%d columns: want %d, as many as in the header", len(values), len(c))
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

// csvRecord parses one line. A quoted field must end on the same line. Otherwise one missing quote would
// make all later lines invalid too.
func csvRecord(line []byte) ([]string, error) {
	return csv.NewReader(bytes.NewReader(line)).Read()
}

// maxImportLine is the longest line that is read, in bytes. The longest valid user fits into it.
const maxImportLine = 64 << 10

var errLineTooLong = fmt.Errorf("the line is too long: want at most %d bytes", maxImportLine)

// lineReader reads lines of bounded length and counts them.
type lineReader struct {
	r      *bufio.Reader
	number int // how many lines were read
}

// next returns the next line without its line break. The next call overwrites the line. next returns
// io.EOF after the last line.
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
		line = bytes.TrimPrefix(line, []byte("\uFEFF")) // spreadsheet programs begin a file with a byte order mark
	}
	return line, nil
}
