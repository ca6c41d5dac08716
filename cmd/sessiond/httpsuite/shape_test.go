package httpsuite

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// shape is a JSON object with these members and no other. A value is what the
// member must equal, another shape, a list, or a matcher.
type shape map[string]any

// matcher complains about a value, or says nothing.
type matcher func(v any) string

var (
	aText matcher = func(v any) string {
		if s, ok := v.(string); !ok || s == "" {
			return "want some text"
		}
		return ""
	}
	anyText matcher = func(v any) string {
		if _, ok := v.(string); !ok {
			return "want a text"
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
			return "want a time of RFC 3339 in UTC"
		}
		return ""
	}
)

// compare complains about everything in which got, as decoded from JSON, is not
// want. at names the place.
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
			t.Errorf("%s: want an object, got %#v", at, got)
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
				t.Errorf("%s.%s is not in the contract", at, name)
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			t.Errorf("%s: want a list of %d, got %v", at, len(want), got)
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

// is fails the test unless the answer has this status and, as JSON, exactly this body.
func (a answer) is(t testing.TB, status int, want any) answer {
	t.Helper()
	a.want(t, status)
	if got := a.header.Get("Content-Type"); got != "application/json; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
	var got any
	a.into(t, &got)
	compare(t, "body", want, got)
	return a
}

// empty fails the test unless the answer has this status and no body.
func (a answer) empty(t testing.TB, status int) answer {
	t.Helper()
	a.want(t, status)
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

// problem fails the test unless the answer is a problem (RFC 9457) of this
// status and code that complains about these fields. message is on the classic
// routes alone.
func (a answer) problem(t testing.TB, classic bool, status int, code string, fields ...string) problemBody {
	t.Helper()
	a.want(t, status)
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
			t.Errorf("a challenge beside status %d: %q", status, challenge)
		}
	case len(challenge) != 1 || !strings.HasPrefix(challenge[0], "Bearer"):
		t.Errorf("401 with the challenge %q", challenge)
	}
	var p problemBody
	a.into(t, &p)
	return p
}
