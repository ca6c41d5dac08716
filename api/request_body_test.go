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

func TestDecodeJSONOrForm_AcceptsOnlyWellFormedBodies_ASVS_V1_5_2_V15_3_5(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name, contentType, body string
		field, code             string // field and code of the expected error, or empty if the body must be accepted
	}{
		{"accepts JSON", mediaJSON, `{"name":"a","nick":"b"}`, "", ""},
		{"accepts JSON with a charset", mediaJSON + "; charset=UTF-8", `{"name":"a"}`, "", ""},
		{"accepts null instead of an absent field", mediaJSON, `{"name":null}`, "", ""},
		{"accepts an absent body", "", ``, "", ""},
		{"accepts a form", form, `name=a+b&nick=%C3%A9`, "", ""},
		// encoding/json would take the last of two values. An attacker could then bypass a proxy that
		// checks the first value.
		{"refuses a member that appears twice", mediaJSON, `{"name":"a","name":"b"}`, "name", "duplicate"},
		{"refuses a form field that appears twice", form, `name=a&name=b`, "name", "duplicate"},
		// The test of decodeJSON below shows that such a name is unknown.
		{"ignores a name in other capitals", mediaJSON, `{"NAME":"a"}`, "", ""},
		{"ignores an unknown member of any type", mediaJSON, `{"name":"a","role":["admin",{}]}`, "", ""},
		{"ignores an unknown form field", form, `name=a&role=admin`, "", ""},
		{"ignores JSON sent as a form", form, `{"name":"secret"}`, "", ""},
		{"refuses an unknown member that appears twice", mediaJSON, `{"role":"a","role":"b"}`, "role", "duplicate"},
		{"refuses an unknown form field that appears twice", form, `role=a&role=b`, "role", "duplicate"},
		{"accepts a byte order mark", mediaJSON, "\ufeff{\"name\":\"a\"}", "", ""},
		{"accepts the charset utf8", mediaJSON + `; charset="UTF8"`, `{"name":"a"}`, "", ""},
		{"refuses a number instead of a string", mediaJSON, `{"name":1}`, "name", "wrong_type"},
		{"refuses an array instead of a string", mediaJSON, `{"name":["a"]}`, "name", "wrong_type"},
		{"refuses an array as the body", mediaJSON, `[]`, "body", "wrong_type"},
		{"refuses null as the body", mediaJSON, `null`, "body", "wrong_type"},
		{"refuses an empty JSON body", mediaJSON, ``, "body", "malformed"},
		{"refuses a blank JSON body", mediaJSON, ` `, "body", "malformed"},
		{"refuses data after the JSON object", mediaJSON, `{"name":"a"} {}`, "body", "malformed"},
		{"refuses truncated JSON", mediaJSON, `{"name":"a`, "name", "malformed"},
		{"refuses invalid UTF-8", mediaJSON, "{\"name\":\"\xff\"}", "name", "malformed"},
		{"refuses half of a surrogate pair", mediaJSON, `{"name":"\ud800"}`, "name", "malformed"},
		{"refuses invalid UTF-8 in a form", form, `name=%ff`, "name", "malformed"},
		{"refuses a form with a bad escape", form, `name=%zz`, "body", "malformed"},
		{"refuses a semicolon in a form", form, `name=a;nick=b`, "body", "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := decodeSample(c.contentType, c.body)
			var fields identity.FieldErrors
			switch {
			case c.code == "" && err != nil:
				t.Errorf("the body was refused: %v", err)
			case c.code != "" && !errors.As(err, &fields):
				t.Errorf("got error %v, want an error about the field %s", err, c.field)
			case c.code != "" && (fields[0].Field != c.field || fields[0].Code != c.code):
				t.Errorf("got error %+v, want field %s with code %s", fields[0], c.field, c.code)
			}
		})
	}
	for name, c := range map[string]struct{ body, field string }{
		// encoding/json would ignore the case of names, and treat the Kelvin sign (U+212A) as a k.
		"refuses a name in other capitals":     {`{"NAME":"a"}`, "NAME"},
		"refuses a Kelvin sign instead of a k": {"{\"nic\u212a\":\"a\"}", "nic\u212a"},
		"refuses an unknown member":            {`{"role":"admin"}`, "role"},
		// These field names may contain a secret, so neither the response nor the log may repeat
		// them.
		"refuses a member name with a space": {`{"a secret":""}`, "body"},
		"refuses a member name of 65 bytes":  {`{"` + strings.Repeat("a", 65) + `":""}`, "body"},
	} {
		t.Run(name+" on /v1", func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", strings.NewReader(c.body))
			r.Header.Set("Content-Type", mediaJSON)
			var fields identity.FieldErrors
			if err := decodeJSON(&request{Request: r}, &sample{}); !errors.As(err, &fields) || fields[0].Field != c.field || fields[0].Code != "unknown" {
				t.Errorf("got error %v, want the unknown field %s", err, c.field)
			}
		})
	}
	for name, contentType := range map[string]string{
		"refuses text/plain, which browsers send without a CORS preflight": "text/plain", "refuses a charset other than UTF-8": mediaJSON + "; charset=latin1", "refuses a malformed Content-Type": ";;",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeSample(contentType, `{"name":"a"}`); !errors.Is(err, errMediaTypeOrForm) {
				t.Errorf("got error %v, want a 415", err)
			}
		})
	}
	t.Run("refuses a body larger than 64 KiB", func(t *testing.T) {
		if _, err := decodeSample(mediaJSON, `{"name":"`+strings.Repeat("a", maxBody)+`"}`); !errors.Is(err, errTooLarge) {
			t.Errorf("got error %v, want a 413", err)
		}
	})
}
