package api

import (
	"net/url"
	"reflect"
	"slices"
)

// decodeQuery decodes the query string into the struct that in points to. Parameters that the
// struct does not declare are ignored.
func decodeQuery(q *request, in any) error {
	values, err := parseQuery(q)
	if err != nil {
		return err
	}
	return fill(in, values)
}

// decodeStrictQuery is like decodeQuery, but refuses parameters that the struct does not declare. A misspelt
// condition must not select more than the client wants.
func decodeStrictQuery(q *request, in any) error {
	values, err := parseQuery(q)
	if err != nil {
		return err
	}
	known := inputFields(reflect.TypeOf(in).Elem())
	for name := range values {
		if !slices.ContainsFunc(known, func(f reflect.StructField) bool { return f.Tag.Get("json") == name }) {
			return unknownField(fieldName(name))
		}
	}
	return fill(in, values)
}

// parseQuery returns the query parameters. It refuses invalid UTF-8 and repeated parameters.
func parseQuery(q *request) (url.Values, error) {
	values, err := url.ParseQuery(q.URL.RawQuery)
	if err != nil {
		return nil, fieldError("query", "malformed", "is not a valid query string")
	}
	return values, fill(&struct{}{}, values)
}
