package httpsuite

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// shape is the expected form of a JSON object, which must have exactly these members. Each member
// is the expected value, another shape, a list, or a matcher.
type shape map[string]any

// A matcher compares a JSON value with what is expected. It returns the difference, or an empty string.
type matcher func(v any) string

var (
	aText matcher = func(v any) string {
		if s, ok := v.(string); !ok || s == "" {
			return "want a string that is not empty"
		}
		return ""
	}
	anyText matcher = func(v any) string {
		if _, ok := v.(string); !ok {
			return "want a string"
		}
		return ""
	}
	anID matcher = func(v any) string {
		if s, ok := v.(string); !ok || !regexp.MustCompile(`^[A-Za-z0-9_-]{22,64}$`).MatchString(s) {
			return "want an id"
		}
		return ""
	}
	aJWT matcher = func(v any) string {
		if s, ok := v.(string); !ok || strings.Count(s, ".") != 2 {
			return "want a JWT"
		}
		return ""
	}
	aTime matcher = func(v any) string {
		s, _ := v.(string)
		if at, err := time.Parse(time.RFC3339Nano, s); err != nil || at.Location() != time.UTC || at.IsZero() {
			return "want an RFC 3339 time in UTC"
		}
		return ""
	}
)

// compare fails the test for every difference between `want` and `got`. The parameter `got` is
// decoded JSON. The parameter `at` is the path of the compared values in the JSON document, for
// error messages.
func compare(t testing.TB, at string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case matcher:
		if complaint := want(got); complaint != "" {
			t.Errorf("%s: %s, got %#v", at, complaint, got)
		}
	case shape:
		object, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s: got %#v, want an object", at, got)
			return
		}
		for name, value := range want {
			if member, there := object[name]; there {
				compare(t, at+"."+name, value, member)
			} else {
				t.Errorf("%s.%s is missing", at, name)
			}
		}
		for name := range object {
			if _, known := want[name]; !known {
				t.Errorf("%s has the unexpected member %s", at, name)
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			t.Errorf("%s: got %v, want a list of %d", at, got, len(want))
			return
		}
		for i := range want {
			compare(t, fmt.Sprintf("%s[%d]", at, i), want[i], list[i])
		}
	case int:
		compare(t, at, float64(want), got)
	default:
		if got != want {
			t.Errorf("%s is %#v, want %#v", at, got, want)
		}
	}
}

// is fails the test unless the response has this status and exactly this JSON body.
func (a response) is(t testing.TB, status int, want any) response {
	t.Helper()
	a = a.want(t, status)
	if got := a.header.Get("Content-Type"); got != "application/json; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
	var got any
	a.into(t, &got)
	compare(t, "body", want, got)
	return a
}

// empty fails the test unless the response has this status and no body.
func (a response) empty(t testing.TB, status int) response {
	t.Helper()
	a = a.want(t, status)
	if len(a.body) > 0 || a.header.Get("Content-Type") != "" {
		t.Errorf("body %q of type %q, want none", a.body, a.header.Get("Content-Type"))
	}
	return a
}

type problemBody struct {
	Type, Title, Detail, Code, Message string

	Status int
	Errors []struct{ Field, Code, Detail string }
}

// problem fails the test unless the response is a problem document (RFC 9457) with this status,
// this code, and errors for exactly these fields. Only problem documents of the classic (pre-/v1)
// routes have the member "message".
func (a response) problem(t testing.TB, classic bool, status int, code string, fields ...string) problemBody {
	t.Helper()
	a = a.want(t, status)
	if got := a.header.Get("Content-Type"); got != "application/problem+json; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
	want := shape{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": aText, "code": code}
	if classic {
		want["message"] = aText
	}
	if len(fields) > 0 {
		list := make([]any, len(fields))
		for i, field := range fields {
			list[i] = shape{"field": field, "code": aText, "detail": aText}
		}
		want["errors"] = list
	}
	var got any
	a.into(t, &got)
	compare(t, "problem", want, got)
	challenge := a.header.Values("WWW-Authenticate")
	switch {
	case status != http.StatusUnauthorized:
		if len(challenge) > 0 {
			t.Errorf("status %d has the challenge %q, want none", status, challenge)
		}
	case len(challenge) != 1 || !strings.HasPrefix(challenge[0], "Bearer"):
		t.Errorf("401 has the challenges %q, want one that starts with Bearer", challenge)
	}
	var p problemBody
	a.into(t, &p)
	return p
}
