package sqlstore

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx/reflectx"
)

// A statement is one SQL statement, spelled for each database when the program starts.
type statement struct {
	postgres, sqlite string
	parameters       []string // the names of the parameters in order; nil: they are positional
}

var namedParameter = regexp.MustCompile(`[^:]:[a-z_]+`)

// newStatement returns the statement with this text. Its parameters are either positional ("?") or
// named (":user_id").
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

// bind returns the values of s's parameters in order. Values of named parameters are the fields of
// the one struct in args.
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

// mapper names the column of a struct's field: the field's name in snake case, or its tag db. The
// fields of an embedded struct count too, unless a field of the outer struct has the same name.
var mapper = reflectx.NewMapperFunc("db", func(field string) string {
	return strings.ToLower(wordStart.ReplaceAllString(field, "${1}_$2"))
})

var wordStart = regexp.MustCompile(`([a-z])([A-Z])`)

// columns lists the columns of a struct, without some.
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
