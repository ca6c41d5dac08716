package api

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxBody is the size of the largest request body that is accepted, in bytes.
const maxBody = 64 << 10

const (
	mediaJSON = "application/json"
	mediaForm = "application/x-www-form-urlencoded"
)

// decodeJSON decodes a JSON object in UTF-8 into the struct that in points to. It refuses members
// that the struct does not declare and members that appear twice. Names are case-sensitive.
func decodeJSON(q *request, in any) error {
	return decodeBody(q, in, bodyDecoders{mediaJSON: strictJSON}, errMediaType)
}

// decodeJSONOrForm is like decodeJSON, but it also accepts HTML forms, and it ignores members that the
// struct does not declare. Clients older than /v1 need both.
func decodeJSONOrForm(q *request, in any) error {
	return decodeBody(q, in, bodyDecoders{mediaJSON: lenientJSON, mediaForm: decodeForm}, errMediaTypeOrForm)
}

// decodeOptional is like decodeJSONOrForm for a route that used to ignore its body: without a body, or with
// one of another media type, it leaves in as it is, even if a Content-Type says otherwise.
func decodeOptional(q *request, in any) error {
	body, media, err := readBody(q)
	decode := bodyDecoders{mediaJSON: lenientJSON, mediaForm: decodeForm}[media]
	switch {
	case errors.Is(err, errTooLarge):
		return err
	case err != nil || len(body) == 0 || decode == nil:
		return nil
	}
	return decode(body, in)
}

// decodeOAuth decodes an HTML form as RFC 6749 section 3.2 requires: it ignores unknown parameters,
// and refuses a parameter that appears twice.
func decodeOAuth(q *request, in any) error {
	return decodeBody(q, in, bodyDecoders{mediaForm: decodeForm}, errMediaTypeForm)
}

// bodyDecoders maps each media type that a route accepts to the decoder of that type.
type bodyDecoders map[string]func(body []byte, in any) error

// decodeBody uses the decoder of the body's media type. It returns noDecoder if there is none.
func decodeBody(q *request, in any, decoders bodyDecoders, noDecoder error) error {
	body, media, err := readBody(q)
	if err != nil {
		return err
	}
	if decode := decoders[media]; decode != nil {
		return decode(body, in)
	}
	return noDecoder
}

// isUTF8 reports whether a parameter charset names UTF-8. Some clients write utf8.
func isUTF8(charset string) bool {
	return charset == "" || strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8")
}

func readBody(q *request) (body []byte, media string, err error) {
	if coding := q.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, "", errContentCoding
	}
	if values := q.Header.Values("Content-Type"); len(values) == 1 {
		var params map[string]string
		media, params, err = mime.ParseMediaType(values[0])
		if err != nil || !isUTF8(params["charset"]) {
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
		// Treat an absent body as an empty object, because the error then names the missing fields.
		body, media = []byte("{}"), mediaJSON
	}
	return body, media, nil
}

func strictJSON(body []byte, in any) error {
	return unmarshalJSON(body, in, json.RejectUnknownMembers(true))
}

func lenientJSON(body []byte, in any) error { return unmarshalJSON(body, in) }

func unmarshalJSON(body []byte, in any, options ...json.Options) error {
	body = bytes.TrimPrefix(body, []byte("\ufeff")) // some programs write a byte order mark, which RFC 8259 lets us ignore
	if jsontext.Value(body).Kind() == 'n' {
		return fieldError("body", "wrong_type", "has the wrong type") // json.Unmarshal would accept null
	}
	// The client does not see the decoder's message, because the message could quote a password.
	err := json.Unmarshal(body, in, options...)
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntactic):
		return duplicateField(fieldOf(syntactic.JSONPointer))
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

// fieldOf returns the name of the top-level field of the body to which the JSON pointer p leads.
func fieldOf(p jsontext.Pointer) string {
	for name := range p.Tokens() {
		return fieldName(name)
	}
	return "body"
}

// decodeForm decodes an HTML form into the struct that in points to.
func decodeForm(body []byte, in any) error {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return fieldError("body", "malformed", "is not a valid form")
	}
	return fill(in, form)
}
