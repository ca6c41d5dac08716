package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 64 << 10

const (
	mediaJSON = "application/json"
	mediaForm = "application/x-www-form-urlencoded"
)

// decodeJSON reads a body into the struct that in points to. The body must be one JSON object in
// UTF-8. No member may be unknown, appear twice or be spelled in other capitals.
func decodeJSON(q *request, in any) error {
	return decodeBody(q, in, bodyDecoders{mediaJSON: unmarshalJSON}, errMediaType)
}

// decodeJSONOrForm is decodeJSON that also takes a form, for the classic routes.
func decodeJSONOrForm(q *request, in any) error {
	return decodeBody(q, in, bodyDecoders{mediaJSON: unmarshalJSON, mediaForm: refuseUnknown.decodeForm}, errMediaTypeOrForm)
}

// decodeOAuth reads the form of RFC 6749 section 3.2: unknown parameters are ignored, and no
// parameter may appear twice.
func decodeOAuth(q *request, in any) error {
	return decodeBody(q, in, bodyDecoders{mediaForm: ignoreUnknown.decodeForm}, errMediaTypeForm)
}

// bodyDecoders are the decoders of the media types that a route takes.
type bodyDecoders map[string]func(body []byte, in any) error

// decodeBody returns otherwise if there is no decoder for the body's media type.
func decodeBody(q *request, in any, decoders bodyDecoders, otherwise error) error {
	body, media, err := readBody(q)
	if err != nil {
		return err
	}
	if decode := decoders[media]; decode != nil {
		return decode(body, in)
	}
	return otherwise
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
		// Nothing was sent. Decode it as an empty object, so that the error names the missing fields.
		body, media = []byte("{}"), mediaJSON
	}
	return body, media, nil
}

func unmarshalJSON(body []byte, in any) error {
	if jsontext.Value(body).Kind() == 'n' {
		return fieldError("body", "wrong_type", "has the wrong type") // null would decode like an empty object
	}
	// The decoder's message is not passed on, because it could quote a password.
	err := json.Unmarshal(body, in, json.RejectUnknownMembers(true))
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

// fieldOf returns the name of the member that a JSON pointer leads into.
func fieldOf(p jsontext.Pointer) string {
	for name := range p.Tokens() {
		return fieldName(name)
	}
	return "body"
}

// decodeForm decodes a form into the struct that in points to.
func (u unknownNames) decodeForm(body []byte, in any) error {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return fieldError("body", "malformed", "is not a valid form")
	}
	return fill(in, form, u)
}
