package identity_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/identity"
)

func TestUpdateAccount_RefusesInvalidRolesAndClaims(t *testing.T) {
	w := newWorld(t)
	u := w.register("alice")
	for _, c := range []struct {
		why    string
		change identity.AttributeChange
		field  string // that is refused; "" if none is
	}{
		{"roles of every form", identity.AttributeChange{Roles: &[]string{"admin", "billing:read", "a", strings.Repeat("a", 32)}}, ""},
		{"no roles", identity.AttributeChange{Roles: &[]string{}}, ""},
		{"an empty role", identity.AttributeChange{Roles: &[]string{""}}, "roles"},
		{"a role with a comma", identity.AttributeChange{Roles: &[]string{"a,b"}}, "roles"},
		{"a role with a line break", identity.AttributeChange{Roles: &[]string{"a\n"}}, "roles"},
		{"a role in capitals", identity.AttributeChange{Roles: &[]string{"Admin"}}, "roles"},
		{"a role that is too long", identity.AttributeChange{Roles: &[]string{strings.Repeat("a", 33)}}, "roles"},
		{"too many roles", identity.AttributeChange{Roles: new(strings.Fields(strings.Repeat("a ", 33)))}, "roles"},
		{"an object", identity.AttributeChange{Claims: new(` { "a" : [1, "ü"] } `)}, ""},
		{"no claims", identity.AttributeChange{Claims: new("")}, ""},
		{"an array", identity.AttributeChange{Claims: new(`[]`)}, "claims"},
		{"text after the object", identity.AttributeChange{Claims: new(`{} {}`)}, "claims"},
		{"a member twice", identity.AttributeChange{Claims: new(`{"a":1,"a":2}`)}, "claims"},
		{"invalid UTF-8", identity.AttributeChange{Claims: new("{\"a\":\"\xff\"}")}, "claims"},
		{"claims that are too long", identity.AttributeChange{Claims: new(`{"a":"` + strings.Repeat("x", 1024) + `"}`)}, "claims"},
	} {
		_, err := w.UpdateAccount(t.Context(), u.ID, identity.Profile{}, c.change)
		fields, _ := errors.AsType[identity.FieldErrors](err)
		if c.field == "" && err != nil || c.field != "" && (len(fields) != 1 || fields[0].Field != c.field) {
			t.Errorf("%s: %v, want the field %q", c.why, err, c.field)
		}
	}
	if got, err := w.User(t.Context(), u.ID); err != nil || got.Roles != "" || got.Claims != "" {
		t.Errorf("in the end: roles %q, claims %q, %v", got.Roles, got.Claims, err)
	}
	if _, err := w.UpdateAccount(t.Context(), u.ID, identity.Profile{}, identity.AttributeChange{Claims: new(`{ "a" : 1 }`)}); err != nil {
		t.Fatal(err)
	}
	if got, err := w.User(t.Context(), u.ID); err != nil || got.Claims != `{"a":1}` {
		t.Errorf("claims %q, %v, want them without white space", got.Claims, err)
	}
}
