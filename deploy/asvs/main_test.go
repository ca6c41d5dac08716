package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func requirements(t *testing.T) []requirement {
	t.Helper()
	all, err := readRequirements(requirementsCSV)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRequirements_AreCompleteAndSorted(t *testing.T) {
	all := requirements(t)
	levels := make(map[int]int)
	last := ""
	sortable := func(id string) string {
		return regexp.MustCompile(`\d+`).ReplaceAllStringFunc(id, func(n string) string { return strings.Repeat("0", 3-len(n)) + n })
	}
	for _, q := range all {
		levels[q.level]++
		if sortable(q.id) <= last {
			t.Errorf("%s does not follow the row before it", q.id)
		}
		last = sortable(q.id)
		if q.text == "" || strings.Contains(q.text+q.note, "|") || q.result == resultNotMet && q.note == "" {
			t.Errorf("%s: the text %q or the note %q is missing or would break the table", q.id, q.text, q.note)
		}
		if !slices.Contains([]string{resultPass, resultLong, resultDeviation, resultNotMet}, q.result) {
			t.Errorf("%s has the result %q", q.id, q.result)
		}
		if !slices.Contains([]string{"behaviour", "inside", "source", "document", "files"}, q.proof) {
			t.Errorf("%s has the proof %q", q.id, q.proof)
		}
	}
	if levels[1] != 52 || levels[2] != 119 || len(all) != 171 {
		t.Errorf("%d requirements of level 1 and %d of level 2, want 52 and 119", levels[1], levels[2])
	}
}

// The deviations are those that deviations.md explains. That document also has requirements of level 3.
func TestRequirements_DeviationsAreThoseOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/deviations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## From ASVS\n")
	written := make(map[string]bool)
	for _, cell := range regexp.MustCompile(`(?m)^\| ((?:\d+\.\d+\.\d+(?:, )?)+) \|`).FindAllStringSubmatch(section, -1) {
		for id := range strings.SplitSeq(cell[1], ", ") {
			written["V"+id] = true
		}
	}
	for _, q := range requirements(t) {
		if deviates := q.result == resultDeviation; deviates != written[q.id] {
			t.Errorf("%s deviates: %t, but in deviations.md: %t", q.id, deviates, written[q.id])
		}
	}
}

func TestRowsOf_CountOnlyTestsThatPassed(t *testing.T) {
	events := `{"Action":"run","Package":"m/a","Test":"TestA_ASVS_V1_1_1"}
		{"Action":"pass","Package":"m/a","Test":"TestA_ASVS_V1_1_1_V1_1_2"}
		{"Action":"pass","Package":"m/b","Test":"TestB_ASVS_V1_1_1/subtest"}
		{"Action":"skip","Package":"m/b","Test":"TestC_ASVS_V1_1_1_V1_1_3"}
		{"Action":"fail","Package":"m/b","Test":"TestD_ASVS_V1_1_1_V1_1_4"}
		{"Action":"pass","Package":"m/b","Test":"TestE"}
		{"Action":"pass","Package":"m/b"}`
	tests, err := readEvents(strings.NewReader(events))
	if err != nil {
		t.Fatal(err)
	}
	list := []requirement{
		{"V1.1.1", 1, "one", "inside", resultPass, ""},
		{"V1.1.2", 2, "two", "inside", resultDeviation, ""},
		{"V1.1.3", 2, "three", "inside", resultLong, ""},
		{"V1.1.4", 2, "four", "inside", resultPass, ""},
		{"V1.1.5", 2, "five", "inside", resultNotMet, "why"},
	}
	rows, err := rowsOf(list, tests)
	if err != nil {
		t.Fatal(err)
	}
	text := document(rows)
	for _, want := range []string{
		"| level 1 | 1 | 1 | 0 | 0 |\n| levels 1 and 2 | 5 | 2 | 1 | 2 |\n",
		"\n| V1.1.1 | 1 | one | inside | `a.TestA` | pass |\n",
		"\n| V1.1.2 | 2 | two | inside | `a.TestA` | [deviation](deviations.md#from-asvs) |\n",
		"\n| V1.1.3 | 2 | three | inside | `b.TestC` | pass in the long form |\n",
		"\n| V1.1.4 | 2 | four | inside |  | not met: no test proved it in this run |\n",
		"\n| V1.1.5 | 2 | five | inside |  | not met: why |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the document lacks %q:\n%s", want, text)
		}
	}
	file := filepath.Join(t.TempDir(), "events")
	if err := os.WriteFile(file, []byte(events), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(file, "../docs/asvs.md", false); err == nil || !strings.Contains(err.Error(), "V1.1.4, which requirements.csv lacks") {
		t.Errorf("an unknown id: got %v", err)
	}
	if _, err := rowsOf(list[4:], []test{{"b.TestF", []string{"V1.1.5"}, "pass"}}); err == nil {
		t.Error("a requirement that is not met may have tests")
	}
}

// The test shows a missing row sooner than a run of all tests does.
func TestDocument_HasTheTestsOfTheSource(t *testing.T) {
	var tests []test
	err := filepath.WalkDir("../..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Abs(filepath.Dir(name))
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				if strings.Contains(f.Name.Name, "ASVS") != idsPattern.MatchString(f.Name.Name) {
					t.Errorf("%s: %s: want ids at the end, such as _ASVS_V6_2_2_V6_2_3", name, f.Name.Name)
				}
				if found, ok := newTest(filepath.Base(dir), f.Name.Name, "pass"); ok {
					tests = append(tests, found)
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := rowsOf(requirements(t), tests)
	if err != nil {
		t.Error(err)
	}
	kept, err := os.ReadFile("../docs/asvs.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := document(rows); string(kept) != want {
		t.Errorf("asvs.md is outdated; SESSIOND_TEST_ASVS=write ./deploy/test.sh writes it. %s", firstDifference(string(kept), want))
	}
}
