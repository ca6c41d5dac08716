// Testreport runs "go test -json" with the arguments it is given and says what
// happened: a line for each package as it ends, what failing tests printed,
// what was skipped and why, and last the line
//
//	N passed, N failed, N skipped
//
// Tests and subtests count alike. With -summary it also writes a sentence about
// what ran to a file. Its exit status is 0 only if tests ran and none failed.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	summary := flag.String("summary", "", "write what was tested to this `file`")
	flag.Parse()
	green, err := run(context.Background(), flag.Args(), *summary, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	if err != nil || !green {
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, summary string, out io.Writer) (green bool, err error) {
	test := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...) //nolint:gosec // G204: the caller's own arguments
	test.Stderr = os.Stderr
	events, err := test.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := test.Start(); err != nil {
		return false, err
	}
	r := newReport(out)
	if err := r.read(events); err != nil {
		return false, err
	}
	failed := test.Wait()
	r.close()
	if summary != "" {
		embedded, err := embeddedStores(ctx, r.tested)
		if err != nil {
			return false, err
		}
		line := fmt.Sprintf("%d tests in %d packages passed, %d failed, %d skipped%s\n",
			r.passed, len(r.tested), r.failed, r.skipped, embedded)
		if err := os.WriteFile(summary, []byte(line), 0o600); err != nil {
			return false, err
		}
	}
	return failed == nil && r.failed == 0 && r.passed > 0, nil
}

// embeddedStores names the in-process stores that the tests of these packages
// are linked with.
func embeddedStores(ctx context.Context, packages []string) (string, error) {
	if len(packages) == 0 {
		return "", nil
	}
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-deps", "-test"}, packages...)...) //nolint:gosec // G204: names that go test printed
	list.Stderr = os.Stderr
	deps, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	var names []string
	for path, name := range map[string]string{
		"modernc.org/sqlite":               "SQLite",
		"github.com/alicebob/miniredis/v2": "miniredis",
	} {
		if slices.Contains(strings.Fields(string(deps)), path) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	slices.Sort(names)
	return " · embedded (" + strings.Join(names, " + ") + ")", nil
}

// event is a line of "go test -json"; see "go doc test2json".
type event struct {
	Action     string
	Package    string
	ImportPath string // of a package that is built
	Test       string // empty: the package itself
	Output     string
	Elapsed    float64 // seconds
}

// name is what an event is about; all zero but Package: the package itself.
type name struct{ Package, Test string }

// report counts and prints events.
type report struct {
	out     io.Writer
	printed map[name]*bytes.Buffer // what is under way has printed so far
	counts  map[string]*counts
	reasons []string // why tests were skipped

	passed, failed, skipped int
	tested                  []string // packages in which a test passed
}

type counts struct{ passed, failed, skipped int }

func newReport(out io.Writer) *report {
	return &report{out: out, printed: map[name]*bytes.Buffer{}, counts: map[string]*counts{}}
}

func (r *report) read(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(r.out, "%s", line) // the go command's own words
			} else {
				r.event(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading events: %w", err)
		}
	}
}

func (r *report) event(e event) {
	n := name{e.Package, e.Test}
	switch e.Action {
	case "output":
		if r.printed[n] == nil {
			r.printed[n] = new(bytes.Buffer)
		}
		r.printed[n].WriteString(e.Output)
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "pass", "fail", "skip":
		if e.Test != "" {
			r.test(n, e.Action)
		} else {
			r.pkg(n, e)
		}
		delete(r.printed, n)
	}
}

func (r *report) test(n name, action string) {
	c := r.counts[n.Package]
	if c == nil {
		c = new(counts)
		r.counts[n.Package] = c
	}
	switch action {
	case "pass":
		c.passed++
	case "skip":
		c.skipped++
		r.reasons = append(r.reasons, fmt.Sprintf("%s %s: %s", short(n.Package), n.Test, reason(r.text(n))))
	case "fail":
		c.failed++
		fmt.Fprintf(r.out, "FAIL %s %s\n%s", short(n.Package), n.Test, indent(r.text(n)))
	}
}

func (r *report) pkg(n name, e event) {
	c := r.counts[n.Package]
	if c == nil {
		c = new(counts)
	}
	word := "ok  "
	if e.Action == "fail" {
		word = "FAIL"
		if c.failed == 0 { // no test's fault: it did not build, or ended early
			c.failed = 1
		}
		for other := range r.printed { // tests that it cut off
			if other.Package == n.Package && other != n {
				fmt.Fprint(r.out, indent(r.text(other)))
			}
		}
		fmt.Fprint(r.out, indent(r.text(n)))
	}
	r.passed += c.passed
	r.failed += c.failed
	r.skipped += c.skipped
	if c.passed > 0 {
		r.tested = append(r.tested, n.Package)
	}
	if *c == (counts{}) {
		fmt.Fprintf(r.out, "-    %s: no tests\n", short(n.Package))
		return
	}
	fmt.Fprintf(r.out, "%s %s: %d passed, %d failed, %d skipped in %.1fs\n",
		word, short(n.Package), c.passed, c.failed, c.skipped, e.Elapsed)
}

func (r *report) close() {
	if len(r.reasons) > 0 {
		fmt.Fprintln(r.out, "\nskipped:")
		for _, reason := range r.reasons {
			fmt.Fprintln(r.out, "    "+reason)
		}
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
}

func (r *report) text(n name) string {
	if b := r.printed[n]; b != nil {
		return b.String()
	}
	return ""
}

// reason is what a skipped test said, on one line and without the frame that
// the testing package puts around it.
func reason(text string) string {
	var said []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}

// short is an import path without what all of ours begin with.
func short(path string) string {
	return strings.TrimPrefix(path, "github.com/sessiond/sessiond/")
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + line)
	}
	return b.String()
}
