package sqlstore

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx/reflectx"
)

// A statement is one SQL statement in the dialects of Postgres and of SQLite.
type statement struct {
	postgres, sqlite string
	parameters       []string // names of the parameters in order; nil if they are positional
}

var namedParameter = regexp.MustCompile(`[^:]:[a-z_]+`)

// newStatement translates an SQL text for both databases. Its parameters are either all positional
// ("?") or all named (":user_id").
func newStatement(text string) *statement {
	s := &statement{}
	text = namedParameter.ReplaceAllStringFunc(text, func(match string) string {
		s.parameters = append(s.parameters, match[2:])
		return match[:1] + "?"
	})
	s.postgres, s.sqlite = postgres.spell(text), sqlite.spell(text)
	return s
}

func (d *dialect) text(s *statement) string {
	if d == &postgres {
		return s.postgres
	}
	return s.sqlite
}

// bind returns the values of the statement's parameters in order. If the parameters are named, args
// is one struct, whose fields are the values.
func (s *statement) bind(args []any) []any {
	if s.parameters == nil {
		return args
	}
	row := reflect.ValueOf(args[0])
	values := make([]any, len(s.parameters))
	for i, index := range mapper.TraversalsByName(row.Type(), s.parameters) {
		values[i] = reflectx.FieldByIndexesReadOnly(row, index).Interface()
	}
	return values
}

// mapper maps the fields of a struct to columns. The column's name is the field's name in snake
// case, or the field's tag db. A field of an outer struct hides fields of embedded structs with the
// same column.
var mapper = reflectx.NewMapperFunc("db", func(field string) string {
	return strings.ToLower(wordStart.ReplaceAllString(field, "${1}_$2"))
})

var wordStart = regexp.MustCompile(`([a-z])([A-Z])`)

// columns returns the columns of a struct, except those that the parameter without lists.
func columns[Row any](without ...string) []string {
	all := slices.Sorted(maps.Keys(mapper.TypeMap(reflect.TypeFor[Row]()).Names))
	return slices.DeleteFunc(all, func(name string) bool { return slices.Contains(without, name) })
}

// assignments returns "a = :a, b = :b" for an UPDATE of these columns.
func assignments(columns []string) string {
	var list []string
	for _, name := range columns {
		list = append(list, name+" = :"+name)
	}
	return strings.Join(list, ", ")
}
