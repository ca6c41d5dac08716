package api

import (
	"errors"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sessiond/sessiond/identity"
)

// An input type is a struct that declares the fields of a route's request. The tag `json` gives a
// field's name. The tag `required:"true"` makes an empty field an error. All fields have the type
// string or *string.

// fill sets the fields of the struct that in points to from a form or a query string. It ignores
// names that the struct does not declare.
func fill(in any, values url.Values) error {
	v := reflect.ValueOf(in).Elem()
	fields := make(map[string]reflect.Value)
	for _, f := range inputFields(v.Type()) {
		fields[f.Tag.Get("json")] = v.FieldByIndex(f.Index)
	}
	for name, all := range values {
		field, known := fields[name]
		switch {
		case len(all) > 1:
			return duplicateField(fieldName(name))
		case !utf8.ValidString(name) || !utf8.ValidString(all[0]):
			return fieldError(fieldName(name), "malformed", "is not valid UTF-8")
		case !known:
		case field.Kind() == reflect.Pointer:
			field.Set(reflect.ValueOf(&all[0]))
		default:
			field.SetString(all[0])
		}
	}
	return nil
}

// checkRequired returns an error that lists the empty required fields, or nil if there are none.
func checkRequired(in any) error {
	v := reflect.ValueOf(in).Elem()
	var missing identity.FieldErrors
	for _, f := range inputFields(v.Type()) {
		if f.Tag.Get("required") == "true" && v.FieldByIndex(f.Index).IsZero() {
			missing = append(missing, requiredField(f.Tag.Get("json"))...)
		}
	}
	if missing == nil {
		return nil
	}
	return missing
}

// inputFields returns the fields of an input type, including those of embedded structs.
func inputFields(in reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(in), func(f reflect.StructField) bool { return f.Anonymous })
}

// maxFieldName is the length, in bytes, of the longest field name that an error message repeats.
const maxFieldName = 64

// fieldName returns name if it looks like a field name, and otherwise "body". A client that sends
// JSON as a form, as 'curl -d' does, sends the JSON as the name of one field. No error may repeat
// such a name, because errors are logged and the JSON may contain a password.
func fieldName(name string) string {
	plain := func(r rune) bool {
		return r == '_' || r == '-' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r)
	}
	if name == "" || len(name) > maxFieldName || strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return "body"
	}
	return name
}

func fieldError(field, code, detail string) error {
	return identity.FieldErrors{{Field: field, Code: code, Detail: detail}}
}

func requiredField(name string) identity.FieldErrors {
	return identity.FieldErrors{{Field: name, Code: identity.CodeRequired, Detail: "is required"}}
}

func duplicateField(name string) error { return fieldError(name, "duplicate", "is given twice") }

func unknownField(name string) error {
	if name == "body" {
		return fieldError(name, "unknown", "has a field that this request does not take")
	}
	return fieldError(name, "unknown", "is not a field of this request")
}

// renameField replaces the field name `from` in the error err by the name `to`. A route needs it if
// its request names a field differently than package identity does.
func renameField(err error, from, to string) error {
	var fields identity.FieldErrors
	if !errors.As(err, &fields) {
		return err
	}
	fields = slices.Clone(fields)
	for i := range fields {
		if fields[i].Field == from {
			fields[i].Field = to
		}
	}
	return fields
}
