// Command asvs makes deploy/docs/asvs.md, the table of the requirements of OWASP ASVS 5.0, from a test
// run. It reads the events of "go test -json". A test names the requirements that it proves at the end
// of its own name, such as TestUsers_SignIn_ASVS_V6_2_2_V6_2_3.
//
//	go run ./deploy/asvs -events FILE          returns an error unless the file is what this run gives
//	go run ./deploy/asvs -events FILE -write   writes the file
//
// The requirements, and those that are not met, are in requirements.csv.
package main

import (
	"bufio"
	_ "embed" // for the go:embed of requirementsCSV
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed requirements.csv
var requirementsCSV string

// The results that a requirement can have.
const (
	resultPass      = "pass"
	resultLong      = "pass in the long form" // its tests run with SESSIOND_TEST_LONG=1 only
	resultDeviation = "deviation"             // of the classic routes; deviations.md says how
	resultNotMet    = "not met"
)

// requirement is one requirement of ASVS.
type requirement struct {
	id     string // such as V6.2.3
	level  int
	text   string // what is required, in words of ours
	proof  string // what the tests look at: behaviour, inside, source, document or files
	result string // what the tests prove, if they pass
	note   string // the condition of a pass, or the reason of what is not met
}

func readRequirements(text string) ([]requirement, error) {
	records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		return nil, err
	}
	var all []requirement
	for _, r := range records[1:] {
		level, err := strconv.Atoi(r[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r[0], err)
		}
		all = append(all, requirement{r[0], level, r[2], r[3], r[4], r[5]})
	}
	return all, nil
}

// test is a test whose name has ids of requirements.
type test struct {
	name    string // with the name of its package, without the ids
	ids     []string
	outcome string // pass, fail or skip
}

var idsPattern = regexp.MustCompile(`^(Test\w+?)_ASVS((?:_V\d+_\d+_\d+)+)$`)

// newTest returns false for a test without ids. A subtest has no ids of its own.
func newTest(pkg, name, outcome string) (test, bool) {
	match := idsPattern.FindStringSubmatch(name)
	if match == nil {
		return test{}, false
	}
	t := test{name: path.Base(pkg) + "." + match[1], outcome: outcome}
	for id := range strings.SplitSeq(strings.TrimPrefix(match[2], "_V"), "_V") {
		t.ids = append(t.ids, "V"+strings.ReplaceAll(id, "_", "."))
	}
	return t, true
}

// readEvents returns the tests with ids that a run of "go test -json" has finished.
func readEvents(r io.Reader) (tests []test, err error) {
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var event struct{ Action, Package, Test string }
		if err := dec.Decode(&event); errors.Is(err, io.EOF) {
			return tests, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the events of the tests: %w", err)
		}
		if !slices.Contains([]string{"pass", "fail", "skip"}, event.Action) {
			continue
		}
		if t, ok := newTest(event.Package, event.Test, event.Action); ok {
			tests = append(tests, t)
		}
	}
}

// row is a requirement with the tests that cover it.
type row struct {
	requirement
	tests []string
}

// rowsOf returns the requirements as the tests have proven them. A test that failed or was skipped
// covers nothing, except that the tests of the long form are skipped in the short one. The error names
// ids that no requirement has, and requirements that are marked as not met and have tests.
func rowsOf(requirements []requirement, tests []test) ([]row, error) {
	covering := make(map[string][]string)
	known := make(map[string]requirement)
	for _, q := range requirements {
		known[q.id] = q
	}
	var problems []error
	for _, t := range tests {
		for _, id := range t.ids {
			q, ok := known[id]
			if !ok {
				problems = append(problems, fmt.Errorf("%s has the id %s, which requirements.csv lacks", t.name, id))
			}
			if t.outcome == "pass" || t.outcome == "skip" && q.result == resultLong {
				covering[id] = append(covering[id], t.name)
			}
		}
	}
	var rows []row
	for _, q := range requirements {
		names := covering[q.id]
		slices.Sort(names)
		if names = slices.Compact(names); q.result == resultNotMet && names != nil {
			problems = append(problems, fmt.Errorf("%s is marked as not met, but %v cover it", q.id, names))
		} else if q.result != resultNotMet && names == nil {
			q.result, q.note = resultNotMet, "no test proved it in this run"
		}
		rows = append(rows, row{q, names})
	}
	return rows, errors.Join(problems...)
}

const introduction = `# OWASP ASVS

How this version meets [OWASP ASVS 5.0](https://github.com/OWASP/ASVS) at levels 1 and 2. The requirements that apply to a
sign-in service without a user interface of its own are in the table. The ids and levels are those of OWASP, the words are ours.
Read the requirement itself there.

<!-- The program deploy/asvs writes this file from a test run: SESSIOND_TEST_ASVS=write ./deploy/test.sh -->

`

const explanation = `
- **pass**: each test in the row checks the requirement, and passed in the run that wrote this file. ` + "`./deploy/test.sh`" + ` fails if
  a later run gives another file. A test that failed or was skipped covers nothing. A note names what a setting or the
  operator adds.
- **pass in the long form**: its tests run with ` + "`SESSIOND_TEST_LONG=1`" + ` only.
- **deviation**: the classic routes do less, as [written down](deviations.md#from-asvs), and the tests prove that it is as
  written. ` + "`/v1`" + ` meets the requirement.
- **not met**: with the reason.

A test is named by its package. Its name in the source ends in ` + "`_ASVS_`" + ` and the ids. What it looks at is in the column *proof*:
the *behaviour* of the running service, the *inside* (parts, or the clock), the *source*, a *document*, or delivered *files*.
More documentation for a review: [security](security.md).

| id | level | required | proof | tests | result |
| --- | --- | --- | --- | --- | --- |
`

// document returns the text of asvs.md.
func document(rows []row) string {
	var b strings.Builder
	b.WriteString(introduction)
	b.WriteString("| | requirements | pass | deviation of the classic routes | not met |\n| --- | --- | --- | --- | --- |\n")
	for _, of := range []struct {
		name  string
		level int
	}{{"level 1", 1}, {"levels 1 and 2", 2}} {
		counts := make(map[string]int)
		n := 0
		for _, r := range rows {
			if r.level <= of.level {
				counts[r.result]++
				n++
			}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", of.name, n, counts[resultPass]+counts[resultLong], counts[resultDeviation], counts[resultNotMet])
	}
	b.WriteString(explanation)
	for _, r := range rows {
		result := r.result
		if result == resultDeviation {
			result = "[deviation](deviations.md#from-asvs)"
		}
		if r.note != "" {
			result += ": " + r.note
		}
		tests := strings.Join(r.tests, "` `")
		if tests != "" {
			tests = "`" + tests + "`"
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s |\n", r.id, r.level, r.text, r.proof, tests, result)
	}
	return b.String()
}

// firstDifference returns the first line in which two texts differ.
func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(a), len(b)) {
		x, y := "", ""
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("line %d is\n  %s\nand this run gives\n  %s", i+1, x, y)
		}
	}
	return "none"
}

func run(events, file string, write bool) error {
	requirements, err := readRequirements(requirementsCSV)
	if err != nil {
		return err
	}
	f, err := os.Open(events) //nolint:gosec // G304: the caller chooses the file
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // the file was only read
	tests, err := readEvents(f)
	if err != nil {
		return err
	}
	rows, err := rowsOf(requirements, tests)
	if err != nil {
		return err
	}
	text := document(rows)
	if write {
		return os.WriteFile(file, []byte(text), 0o644) //nolint:gosec // G306: this is a document for everybody
	}
	kept, err := os.ReadFile(file) //nolint:gosec // G304: the caller chooses the file
	if err != nil {
		return err
	}
	if string(kept) != text {
		return fmt.Errorf("%s is not what this run gives; SESSIOND_TEST_ASVS=write ./deploy/test.sh writes it. %s", file, firstDifference(string(kept), text))
	}
	return nil
}

func main() {
	events := flag.String("events", "", "file with the events of go test -json")
	file := flag.String("file", "deploy/docs/asvs.md", "the document")
	write := flag.Bool("write", false, "write the document instead of comparing it")
	flag.Parse()
	if err := run(*events, *file, *write); err != nil {
		fmt.Fprintln(os.Stderr, "asvs:", err)
		os.Exit(1)
	}
}
