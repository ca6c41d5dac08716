package api

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/identity"
)

type sample struct {
	Name string  `json:"name"`
	Nick *string `json:"nick"`
}

func decodeSample(contentType, body string) (sample, error) {
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	var in sample
	err := decodeJSONOrForm(&request{Request: r}, &in)
	return in, err
}

func TestDecodeJSONOrForm(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name, contentType, body string
		field, code             string // of the error; empty if the body is accepted
	}{
		{"accepts JSON", mediaJSON, `{"name":"a","nick":"b"}`, "", ""},
		{"accepts JSON with a charset", mediaJSON + "; charset=UTF-8", `{"name":"a"}`, "", ""},
		{"accepts null for an absent field", mediaJSON, `{"name":null}`, "", ""},
		{"accepts no body", "", ``, "", ""},
		{"accepts a form", form, `name=a+b&nick=%C3%A9`, "", ""},
		// encoding/json takes the last one. A proxy that looks at the first would see another request.
		{"refuses a member twice", mediaJSON, `{"name":"a","name":"b"}`, "name", "duplicate"},
		{"refuses a form field twice", form, `name=a&name=b`, "name", "duplicate"},
		// encoding/json ignores case here, even for the Kelvin sign.
		{"refuses other capitals", mediaJSON, `{"NAME":"a"}`, "NAME", "unknown"},
		{"refuses the Kelvin sign for a k", mediaJSON, "{\"nic\u212a\":\"a\"}", "nic\u212a", "unknown"},
		{"refuses an unknown member", mediaJSON, `{"role":"admin"}`, "role", "unknown"},
		{"refuses an unknown form field", form, `role=admin`, "role", "unknown"},
		// These names may hold a secret. Names are repeated in the response and logged.
		{"refuses JSON sent as a form", form, `{"name":"secret"}`, "body", "unknown"},
		{"refuses a word sent as a form", form, `secret`, "body", "unknown"},
		{"refuses a sentence as a name", mediaJSON, `{"a secret":""}`, "body", "unknown"},
		{"refuses a long name", mediaJSON, `{"` + strings.Repeat("a", 65) + `":""}`, "body", "unknown"},
		{"refuses a number for a text", mediaJSON, `{"name":1}`, "name", "wrong_type"},
		{"refuses an array for a text", mediaJSON, `{"name":["a"]}`, "name", "wrong_type"},
		{"refuses an array as the body", mediaJSON, `[]`, "body", "wrong_type"},
		{"refuses null as the body", mediaJSON, `null`, "body", "wrong_type"},
		{"refuses an empty JSON body", mediaJSON, ``, "body", "malformed"},
		{"refuses a blank JSON body", mediaJSON, ` `, "body", "malformed"},
		{"refuses trailing data", mediaJSON, `{"name":"a"} {}`, "body", "malformed"},
		{"refuses JSON that is cut short", mediaJSON, `{"name":"a`, "name", "malformed"},
		{"refuses invalid UTF-8", mediaJSON, "{\"name\":\"\xff\"}", "name", "malformed"},
		{"refuses half a surrogate pair", mediaJSON, `{"name":"\ud800"}`, "name", "malformed"},
		{"refuses invalid UTF-8 in a form", form, `name=%ff`, "name", "malformed"},
		{"refuses a broken form", form, `name=%zz`, "body", "malformed"},
		{"refuses a semicolon in a form", form, `name=a;nick=b`, "body", "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := decodeSample(c.contentType, c.body)
			var fields identity.FieldErrors
			switch {
			case c.code == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.code != "" && !errors.As(err, &fields):
				t.Errorf("got error %v, want one about the field %s", err, c.field)
			case c.code != "" && (fields[0].Field != c.field || fields[0].Code != c.code):
				t.Errorf("got error %+v, want field %s with code %s", fields[0], c.field, c.code)
			}
		})
	}
	for name, contentType := range map[string]string{
		"refuses text, which browsers send without a preflight": "text/plain", "refuses another charset": mediaJSON + "; charset=latin1", "refuses a malformed type": ";;",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeSample(contentType, `{"name":"a"}`); !errors.Is(err, errMediaTypeOrForm) {
				t.Errorf("got error %v, want a 415", err)
			}
		})
	}
	t.Run("refuses a large body", func(t *testing.T) {
		if _, err := decodeSample(mediaJSON, `{"name":"`+strings.Repeat("a", maxBody)+`"}`); !errors.Is(err, errTooLarge) {
			t.Errorf("got error %v, want a 413", err)
		}
	})
}
