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
	root   = "../.." // path from this directory to the root of the module
)

// arrows lists, for each package of this module, the packages of this module that it may import.
// A new package must be added here.
var arrows = map[string][]string{
	"session":                 {},
	"session/issuer":          {"session"},
	"session/example":         {"session", "redisstore"},
	"identity":                {"identity/audit", "identity/hashing", "identity/limit", "identity/mail"},
	"identity/audit":          {},
	"identity/clients":        {"identity/hashing"},
	"identity/breach":         {"identity"},
	"identity/hashing":        {},
	"identity/limit":          {},
	"identity/mail":           {},
	"redisstore":              {"session", "session/issuer", "identity/limit"},
	"redisstore/embedded":     {},
	"sqlstore":                {"session", "session/issuer", "identity", "identity/audit", "identity/clients", "identity/mail"},
	"api":                     {"session", "session/issuer", "identity", "identity/audit", "identity/clients", "identity/limit", "identity/mail"},
	"api/docgen":              {},
	"cmd/sessiond":            {"cmd/sessiond/app"},
	"cmd/sessiond/httpsuite":  {}, // this package has only tests
	"cmd/sessiond/faultsuite": {}, // this package has only tests
	"cmd/sessiond/app":        {"api", "session", "session/issuer", "identity", "identity/audit", "identity/breach", "identity/clients", "identity/hashing", "identity/limit", "identity/mail", "redisstore", "redisstore/embedded", "sqlstore"},
	"deploy/asvs":             {},
	"deploy/gateways":         {},
	"deploy/observability":    {}, // this package has only tests
}

func TestPackages_ImportOnlyAllowedPackages(t *testing.T) {
	// The imports of test files are not checked, because a test may use any package.
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
		allowed, listed := arrows[from]
		if !listed && !isTestHelper(from) {
			t.Errorf("package %s is not in the table arrows: add it with the packages that it may import", from)
		}
		for _, to := range imports {
			switch {
			case isTestHelper(from):
				// Test helpers must not import api or cmd, unless they are below that directory.
				if r := topDirectory(to); r != topDirectory(from) && (r == "api" || r == "cmd") {
					t.Errorf("the test helper %s must not import %s", from, to)
				}
			case isTestHelper(to):
				t.Errorf("%s imports the test helper %s", from, to)
			case !slices.Contains(allowed, to):
				t.Errorf("%s imports %s, which the table arrows does not allow", from, to)
			}
		}
	}
}

// ours returns those of the paths that are packages of this module, without the module's path.
func ours(paths []string) []string {
	var short []string
	for _, p := range paths {
		if rest, ok := strings.CutPrefix(p, module+"/"); ok {
			short = append(short, rest)
		}
	}
	return short
}

// isTestHelper reports whether a package is only for tests. The names of such packages end in
// "test".
func isTestHelper(p string) bool { return strings.HasSuffix(path.Base(p), "test") }

// topDirectory returns the top-level directory of a package.
func topDirectory(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

func TestRepository_HasOnlyAllowedTopLevelEntries(t *testing.T) {
	allowed := []string{
		"cmd", "api", "session", "identity", "redisstore", "sqlstore", "deploy",
		"go.mod", "go.sum", "README.md", "LICENSE",
		"sessiond", // a program that go build writes and git ignores
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s is a new entry at the top level: add it to the list in this test if it belongs there", e.Name())
		}
	}
}
