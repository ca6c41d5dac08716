package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The classic routes must stay easy to remove. No file except routes.go may therefore use a
// function or a type that classic.go declares.
func TestClassicHandlers_AreUsedOnlyByRoutesFile(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	parse := func(name string) *ast.File {
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	declared := map[string]bool{}
	for _, d := range parse("classic.go").Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			declared[d.Name.Name] = true
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if s, ok := spec.(*ast.TypeSpec); ok {
					declared[s.Name.Name] = true
				}
			}
		}
	}
	if !declared["loginUser"] {
		t.Error("classic.go does not declare loginUser")
	}
	for _, name := range files {
		if name == "classic.go" || name == "routes.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		ast.Inspect(parse(name), func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && declared[id.Name] {
				t.Errorf("%s uses %s, but only routes.go may use what classic.go declares", fset.Position(id.Pos()), id.Name)
			}
			return true
		})
	}
	routes, err := os.ReadFile("routes.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(routes), "a.classicRoutes("); n != 1 {
		t.Errorf("routes.go calls a.classicRoutes %d times, want once", n)
	}
}
