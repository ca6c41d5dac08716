package api

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 64 << 10

const (
	mediaJSON = "application/json"
	mediaForm = "application/x-www-form-urlencoded"
)

// fieldError is a complaint about one field.
func fieldError(field, code, detail string) error {
	return identity.FieldErrors{{Field: field, Code: code, Detail: detail}}
}

// decodeJSON reads a body into T: one JSON object, in UTF-8, with no member
// that T lacks, none twice and none in other capitals.
func decodeJSON[T any](q *request) (T, error) {
	var in T
	body, media, err := readBody(q)
	if err != nil {
		return in, err
	}
	if media != mediaJSON {
		return in, errMediaType
	}
	return in, unmarshal(body, &in)
}

// decode is decodeJSON that also takes a form, for the classic routes.
func decode[T any](q *request) (T, error) {
	var in T
	body, media, err := readBody(q)
	if err != nil {
		return in, err
	}
	switch media {
	case mediaForm:
		return in, unmarshalForm(body, &in)
	case mediaJSON:
		return in, unmarshal(body, &in)
	default:
		return in, errMediaTypeOrForm
	}
}

func readBody(q *request) (body []byte, media string, err error) {
	if values := q.Header.Values("Content-Type"); len(values) == 1 {
		var params map[string]string
		media, params, err = mime.ParseMediaType(values[0])
		if err != nil || params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
			return nil, "", errMediaTypeOrForm
		}
	} else if len(values) > 1 {
		return nil, "", errMediaTypeOrForm
	}
	body, err = io.ReadAll(http.MaxBytesReader(nil, q.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, "", errTooLarge
	case err != nil:
		return nil, "", fieldError("body", "invalid", "The body could not be read.")
	}
	if media == "" && len(body) == 0 {
		// Nothing was sent: the answer names what is missing.
		body, media = []byte("{}"), mediaJSON
	}
	return body, media, nil
}

func unmarshal(body []byte, in any) error {
	if jsontext.Value(body).Kind() == 'n' {
		return fieldError("body", "wrong_type", "has the wrong type") // null would pass for an empty object
	}
	// No decoder's message is passed on: it could quote a password.
	err := json.Unmarshal(body, in, json.RejectUnknownMembers(true))
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntactic):
		return fieldError(fieldOf(syntactic.JSONPointer), "duplicate", "is given twice")
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return unknownField(fieldOf(semantic.JSONPointer))
	case errors.As(err, &semantic):
		return fieldError(fieldOf(semantic.JSONPointer), "wrong_type", "has the wrong type")
	case errors.As(err, &syntactic):
		return fieldError(fieldOf(syntactic.JSONPointer), "malformed", "is not valid JSON in UTF-8")
	default:
		return fieldError("body", "malformed", "is not valid JSON in UTF-8")
	}
}

// fieldOf names the member that a JSON pointer leads into.
func fieldOf(p jsontext.Pointer) string {
	for name := range p.Tokens() {
		return fieldName(name)
	}
	return "body"
}

// maxFieldName bounds the name of a field that we repeat, in bytes.
const maxFieldName = 64

// fieldName repeats a name that a client made up, when it looks like one.
// Sent as a form, as curl -d does, a JSON body is one long name with a password in it,
// and what is repeated is logged as well.
func fieldName(name string) string {
	plain := func(r rune) bool {
		return r == '_' || r == '-' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r)
	}
	if name == "" || len(name) > maxFieldName || strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return "body"
	}
	return name
}

// unknownField complains about a field that the request does not have.
func unknownField(name string) error {
	if name == "body" {
		return fieldError(name, "unknown", "has a field that is none of this request")
	}
	return fieldError(name, "unknown", "is not a field of this request")
}

// unmarshalForm reads a form into the string fields of the struct that in
// points to, by their JSON names.
func unmarshalForm(body []byte, in any) error {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return fieldError("body", "malformed", "is not a valid form")
	}
	v := reflect.ValueOf(in).Elem()
	fields := make(map[string]reflect.Value, v.NumField())
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = v.Field(i)
	}
	for name, values := range form {
		field, known := fields[name]
		switch {
		case !known && values[0] == "":
			return unknownField("body") // a word alone may be anything, a token too
		case !known:
			return unknownField(fieldName(name))
		case len(values) > 1:
			return fieldError(name, "duplicate", "is given twice")
		case !utf8.ValidString(values[0]):
			return fieldError(name, "malformed", "is not valid UTF-8")
		case field.Kind() == reflect.Pointer:
			field.Set(reflect.ValueOf(&values[0]))
		default:
			field.SetString(values[0])
		}
	}
	return nil
}

// required complains about every field that is empty, in the order given as
// name, value, name, value …
func required(pairs ...string) error {
	var missing identity.FieldErrors
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			missing = append(missing, identity.FieldError{Field: pairs[i], Code: "required", Detail: "is required"})
		}
	}
	if missing == nil {
		return nil
	}
	return missing
}

// query reads the query string; a parameter given twice, or not in UTF-8, is
// refused.
func query(q *request) (url.Values, error) {
	values, err := url.ParseQuery(q.URL.RawQuery)
	if err != nil {
		return nil, fieldError("query", "malformed", "is not a valid query string")
	}
	for name, all := range values {
		switch {
		case len(all) > 1:
			return nil, fieldError(fieldName(name), "duplicate", "is given twice")
		case !utf8.ValidString(name), !utf8.ValidString(all[0]):
			return nil, fieldError(fieldName(name), "malformed", "is not valid UTF-8")
		}
	}
	return values, nil
}

// param reads one required parameter of the query.
func param(q *request, name string) (string, error) {
	values, err := query(q)
	if err != nil {
		return "", err
	}
	return values.Get(name), required(name, values.Get(name))
}

const (
	defaultLimit = 50
	maxLimit     = 100
)

// page reads limit and cursor. It asks for one item more than the caller wants, which tells
// whether there is a next page.
func page(q *request) (issuer.Page, error) {
	values, err := query(q)
	if err != nil {
		return issuer.Page{}, err
	}
	p := issuer.Page{Limit: defaultLimit + 1}
	if values.Has("limit") {
		n, err := strconv.ParseUint(values.Get("limit"), 10, 31)
		if err != nil || n < 1 || n > maxLimit {
			return p, fieldError("limit", "out_of_range", fmt.Sprintf("is a number from 1 to %d", maxLimit))
		}
		p.Limit = int(n) + 1
	}
	if values.Has("cursor") {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(values.Get("cursor"))
		if err != nil || !issuer.ValidID(string(raw)) {
			return p, fieldError("cursor", "invalid", "is not a cursor of ours")
		}
		p.Before = string(raw)
	}
	return p, nil
}

// list is a page of a list.
type list[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// paged makes a list of what a [page] found: view shows one item, id names it.
func paged[S, T any](found []S, p issuer.Page, id func(*S) string, view func(*S) T) list[T] {
	var out list[T]
	if want := p.Limit - 1; len(found) > want {
		found = found[:want]
		cursor := base64.RawURLEncoding.EncodeToString([]byte(id(&found[want-1])))
		out.NextCursor = &cursor
	}
	out.Items = make([]T, len(found))
	for i := range found {
		out.Items[i] = view(&found[i])
	}
	return out
}
