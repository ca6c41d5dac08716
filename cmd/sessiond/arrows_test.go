package main_test

import (
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/sessiond/sessiond"
	root   = "../.." // of the module, from this directory
)

// arrows says which of our packages each of them may import. A package that is
// missing here is a decision that somebody has yet to make.
var arrows = map[string][]string{
	"session":                {},
	"session/issuer":         {"session"},
	"session/example":        {"session", "redisstore"},
	"identity":               {"identity/hashing", "identity/limit", "identity/mail"},
	"identity/breach":        {"identity"},
	"identity/hashing":       {},
	"identity/limit":         {},
	"identity/mail":          {},
	"redisstore":             {"session", "session/issuer", "identity/limit"},
	"redisstore/embedded":    {},
	"sqlstore":               {"session", "session/issuer", "identity", "identity/mail"},
	"api":                    {"session", "session/issuer", "identity", "identity/limit"},
	"api/docgen":             {},
	"cmd/sessiond":           {"cmd/sessiond/app"},
	"cmd/sessiond/httpsuite": {}, // tests only
	"cmd/sessiond/app":       {"api", "session", "session/issuer", "identity", "identity/breach", "identity/hashing", "identity/limit", "identity/mail", "redisstore", "redisstore/embedded", "sqlstore"},
	"deploy/gateways":        {},
}

func TestArrows(t *testing.T) {
	// Imports leaves those of test files out: a test may stand on anything.
	list := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.ImportPath}}{{range .Imports}} {{.}}{{end}}", "./...")
	list.Dir = root
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		paths := ours(strings.Fields(line))
		from, imports := paths[0], paths[1:]
		allowed, known := arrows[from]
		if !known && !helper(from) {
			t.Errorf("package %s: add it to this table, with what it may import", from)
		}
		for _, to := range imports {
			switch {
			case helper(from):
				// It may lean on what it helps to test, but not from below on what is above.
				if r := room(to); r != room(from) && (r == "api" || r == "cmd") {
					t.Errorf("test helper %s imports %s", from, to)
				}
			case helper(to):
				t.Errorf("%s imports the test helper %s", from, to)
			case !slices.Contains(allowed, to):
				t.Errorf("%s imports %s", from, to)
			}
		}
	}
}

// ours leaves only this module's packages, without the module's path.
func ours(paths []string) []string {
	var short []string
	for _, p := range paths {
		if rest, ok := strings.CutPrefix(p, module+"/"); ok {
			short = append(short, rest)
		}
	}
	return short
}

// helper tells whether a package is for tests alone: those have names like
// storetest.
func helper(p string) bool { return strings.HasSuffix(path.Base(p), "test") }

func room(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

// TestTopLevel: who opens the repository sees these rooms and no others.
func TestTopLevel(t *testing.T) {
	allowed := []string{
		"cmd", "api", "session", "identity", "redisstore", "sqlstore", "deploy",
		"go.mod", "go.sum", "README.md", "LICENSE",
		"sessiond", // what go build leaves there; git ignores it
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s has no place at the top level", e.Name())
		}
	}
}
