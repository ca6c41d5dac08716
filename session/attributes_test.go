package session_test

import (
	"slices"
	"testing"

	"github.com/sessiond/sessiond/session"
)

func TestRoles_AreASortedSet(t *testing.T) {
	r := session.NewRoles("editor", "admin", "editor")
	if r != "admin,editor" || !slices.Equal(r.List(), []string{"admin", "editor"}) {
		t.Errorf("roles %q, list %q", r, r.List())
	}
	for name, want := range map[string]bool{"admin": true, "editor": true, "edit": false, "admin,editor": false, "": false} {
		if r.Has(name) != want {
			t.Errorf("Has(%q) is %v", name, !want)
		}
	}
	if none := session.NewRoles(); none != "" || none.List() != nil || none.Has("") {
		t.Errorf("the empty set is %q, list %q", none, none.List())
	}
}
