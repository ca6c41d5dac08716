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
	return decode[sample](&request{Request: r})
}

func TestDecode(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name, contentType, body string
		field, code             string // of the complaint; empty: accepted
	}{
		{"plain", mediaJSON, `{"name":"a","nick":"b"}`, "", ""},
		{"with charset", mediaJSON + "; charset=UTF-8", `{"name":"a"}`, "", ""},
		{"null is as good as nothing", mediaJSON, `{"name":null}`, "", ""},
		{"no body at all", "", ``, "", ""},
		{"a form", form, `name=a+b&nick=%C3%A9`, "", ""},
		// encoding/json takes the last one, so that a proxy that looks at the first sees another request.
		{"a member twice", mediaJSON, `{"name":"a","name":"b"}`, "name", "duplicate"},
		{"a form field twice", form, `name=a&name=b`, "name", "duplicate"},
		// encoding/json matches these without regard to case, the Kelvin sign included.
		{"other capitals", mediaJSON, `{"NAME":"a"}`, "NAME", "unknown"},
		{"nic\u212a", mediaJSON, "{\"nic\u212a\":\"a\"}", "nic\u212a", "unknown"},
		{"unknown member", mediaJSON, `{"role":"admin"}`, "role", "unknown"},
		{"unknown form field", form, `role=admin`, "role", "unknown"},
		// These may hold a secret, and names are repeated and logged.
		{"JSON sent as a form", form, `{"name":"secret"}`, "body", "unknown"},
		{"a word sent as a form", form, `secret`, "body", "unknown"},
		{"a sentence for a name", mediaJSON, `{"a secret":""}`, "body", "unknown"},
		{"a long name", mediaJSON, `{"` + strings.Repeat("a", 65) + `":""}`, "body", "unknown"},
		{"number for text", mediaJSON, `{"name":1}`, "name", "wrong_type"},
		{"array for text", mediaJSON, `{"name":["a"]}`, "name", "wrong_type"},
		{"array for all", mediaJSON, `[]`, "body", "wrong_type"},
		{"null for all", mediaJSON, `null`, "body", "wrong_type"},
		{"JSON without a body", mediaJSON, ``, "body", "malformed"},
		{"JSON with a blank body", mediaJSON, ` `, "body", "malformed"},
		{"trailing data", mediaJSON, `{"name":"a"} {}`, "body", "malformed"},
		{"cut short", mediaJSON, `{"name":"a`, "name", "malformed"},
		{"invalid UTF-8", mediaJSON, "{\"name\":\"\xff\"}", "name", "malformed"},
		{"half a surrogate pair", mediaJSON, `{"name":"\ud800"}`, "name", "malformed"},
		{"invalid UTF-8 in a form", form, `name=%ff`, "name", "malformed"},
		{"a broken form", form, `name=%zz`, "body", "malformed"},
		{"a semicolon in a form", form, `name=a;nick=b`, "body", "malformed"},
	} {
		_, err := decodeSample(c.contentType, c.body)
		var fields identity.FieldErrors
		switch {
		case c.code == "" && err != nil:
			t.Errorf("%s: refused: %v", c.name, err)
		case c.code != "" && !errors.As(err, &fields):
			t.Errorf("%s: got %v, want a complaint about %s", c.name, err, c.field)
		case c.code != "" && (fields[0].Field != c.field || fields[0].Code != c.code):
			t.Errorf("%s: complaint %+v, want %s %s", c.name, fields[0], c.field, c.code)
		}
	}
	for name, contentType := range map[string]string{
		"text that could be sent without preflight": "text/plain", "another charset": mediaJSON + "; charset=latin1", "nonsense": ";;",
	} {
		if _, err := decodeSample(contentType, `{"name":"a"}`); !errors.Is(err, errMediaTypeOrForm) {
			t.Errorf("%s: got %v, want 415", name, err)
		}
	}
	if _, err := decodeSample(mediaJSON, `{"name":"`+strings.Repeat("a", maxBody)+`"}`); !errors.Is(err, errTooLarge) {
		t.Errorf("a large body: got %v, want 413", err)
	}
}

func TestDevices(t *testing.T) {
	for agent, want := range map[string]string{
		"": "Unknown device",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36":                   "Chrome on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1": "Safari on iOS",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0":                                                        "Firefox on Windows",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36":                   "Chrome on Android",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0":           "Edge on Windows",
		"curl/8.5.0": "curl",
	} {
		if got := device(agent); got != want {
			t.Errorf("device(%q) = %q, want %q", agent, got, want)
		}
	}
	// What Postgres would refuse, or a terminal obey, must not get that far.
	if got := cleanUserAgent("a\x00b\xff\u202ec\x1b[31m" + strings.Repeat("é", 600)); strings.ContainsAny(got, "\x00\u202e\x1b") || len(got) > maxUserAgent {
		t.Errorf("cleanUserAgent left %q", got)
	}
}
