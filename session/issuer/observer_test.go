package issuer

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Each reason that a caller can pass must have a series of its own, except those of sessions that
// ended by themselves.
func TestRevocationReasons_HaveEveryReasonForTheEndOfASession(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "session.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found++
		byItself := reason == string(ReasonIdle) || reason == string(ReasonMaxLifetime)
		if slices.Contains(RevocationReasons, reason) == byItself {
			t.Errorf("%s: RevocationReasons has it: %t, want %t", spec.Names[0].Name, byItself, !byItself)
		}
		return true
	})
	if found < 10 {
		t.Errorf("found %d reasons in session.go", found)
	}
}

func TestRevocation_ReportsUnknownReasonAsOther(t *testing.T) {
	for want, r := range map[string]Revocation{
		"logout":     {Reason: ReasonLogout, SessionID: "s"},
		"token":      {SessionID: "s", TokenID: "t"},
		"attributes": {Generation: 2},
		"other":      {Reason: "of a later release", SessionID: "s"},
	} {
		if got := r.why(); got != want {
			t.Errorf("%+v is reported as %s, want %s", r, got, want)
		}
	}
}
