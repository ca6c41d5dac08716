package faultsuite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A suite that finds nothing proves something only if it would find a bug. Each patch in the
// directory seeded puts one bug into the program, and its first line names the rows of the matrix
// that must find it.

const (
	catchWithin      = 10 * time.Minute
	seededInjections = 4 // in each run of a row
)

// seededBug is a bug that a patch puts into a copy of the program.
type seededBug struct {
	name, patch string
	rows        []int // they run in turn until one of them finds the bug
}

var (
	patchedFile = regexp.MustCompile(`(?m)^\+\+\+ b/(.+)$`)
	rowNumber   = regexp.MustCompile(`\d+`)
	rowFigures  = regexp.MustCompile(`injections (\d+) · .*(accepted after it .*?) · revived`)
)

func seededBugs(t *testing.T) (bugs []seededBug) {
	t.Helper()
	paths, err := filepath.Glob("seeded/*.patch")
	if err != nil || len(paths) == 0 {
		t.Fatal("no patches found", err)
	}
	for _, path := range paths {
		patch, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bug := seededBug{name: strings.TrimSuffix(filepath.Base(path), ".patch"), patch: string(patch)}
		first, _, _ := strings.Cut(bug.patch, "\n")
		for _, text := range rowNumber.FindAllString(first, -1) {
			number, _ := strconv.Atoi(text)
			if !slices.ContainsFunc(faults, func(f fault) bool { return f.number == number }) {
				t.Errorf("%s: the matrix has no row %d", path, number)
			}
			bug.rows = append(bug.rows, number)
		}
		if !strings.HasPrefix(first, "row ") || len(bug.rows) == 0 {
			t.Fatalf("%s: the first line names no row", path)
		}
		bugs = append(bugs, bug)
	}
	return bugs
}

// TestSeededBugs_ApplyToSource keeps the patches up to date with the source that they change.
func TestSeededBugs_ApplyToSource(t *testing.T) {
	for _, bug := range seededBugs(t) {
		t.Run(bug.name, func(t *testing.T) { bug.apply(t, t.TempDir()) })
	}
}

// TestSeededBugs_AreCaught builds the program with each bug, and runs rows until one of them reports
// a broken promise.
func TestSeededBugs_AreCaught(t *testing.T) {
	if os.Getenv("SESSIOND_TEST_LONG") != "1" {
		t.Skip("runs in the long form: SESSIOND_TEST_LONG=1")
	}
	for _, bug := range seededBugs(t) {
		t.Run(bug.name, func(t *testing.T) { bug.catch(t) })
	}
}

// apply writes patched copies of the files that the patch changes to dir. It returns the path of an
// overlay with which go build uses them.
func (b *seededBug) apply(t *testing.T, dir string) (overlay string) {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	write := func(path string, data []byte) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace, before := map[string]string{}, map[string][]byte{}
	for _, m := range patchedFile.FindAllStringSubmatch(b.patch, -1) {
		original, patched := filepath.Join(root, m[1]), filepath.Join(dir, m[1])
		text, err := os.ReadFile(original)
		if err != nil {
			t.Fatal(err)
		}
		write(patched, text)
		replace[original], before[patched] = patched, text
	}
	cmd := exec.Command("git", "apply", "-")
	if _, err := exec.LookPath("git"); err != nil {
		cmd = exec.Command("patch", "-p1")
	}
	if _, err := exec.LookPath(cmd.Args[0]); err != nil {
		t.Skip("NOT TESTED, because neither git nor patch is installed")
	}
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(b.patch)
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir)) // dir is in no repository
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the patch does not apply to the source any more: %v\n%s", err, out)
	}
	for path, text := range before {
		if now, err := os.ReadFile(path); err != nil || bytes.Equal(now, text) {
			t.Fatalf("the patch did not change %s (%v)", path, err)
		}
	}
	data, err := json.Marshal(object{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	write(overlay, data)
	return overlay
}

// catch runs the bug's rows in turn until one of them reports a broken promise.
func (b *seededBug) catch(t *testing.T) {
	dir := tempDir(t)
	program := filepath.Join(dir, "sessiond")
	output(t, os.Environ(), "go", "build", "-overlay", b.apply(t, filepath.Join(dir, "source")), "-o", program, "..")
	began, injected := time.Now(), 0
	ctx, cancel := context.WithTimeout(t.Context(), catchWithin)
	defer cancel()
	for i := 0; ctx.Err() == nil; i++ {
		row := b.rows[i%len(b.rows)]
		text, broken := b.runRow(ctx, t, dir, program, row)
		if figures := rowFigures.FindStringSubmatch(text); figures != nil {
			n, _ := strconv.Atoi(figures[1])
			if injected += n; broken {
				t.Logf("%s\n%s: caught by row %d after %d injections and %v: %s",
					text, b.name, row, injected, time.Since(began).Round(time.Second), figures[2])
				return
			}
		}
		t.Logf("row %d did not catch it:\n%s", row, text)
	}
	t.Errorf("%s: not caught within %v, by %d injections", b.name, catchWithin, injected)
}

// runRow runs a row against a program, in a process of its own because the row shall fail. It
// returns what the row reported, without the logs of the replicas, and whether the promise is
// broken.
func (b *seededBug) runRow(ctx context.Context, t *testing.T, dir, program string, row int) (text string, broken bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, "-test.v", fmt.Sprintf("-test.run=^TestFaults_/^row_%02d$", row),
		"-program="+program, fmt.Sprintf("-injections=%d", seededInjections), fmt.Sprintf("-rate=%d", *rate))
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "SESSIOND_TEST_LONG=")
	cmd.SysProcAttr = childAttributes()
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	text, _, _ = strings.Cut(string(out), "-- end of the log")
	switch {
	case strings.Contains(text, "NOT TESTED"):
		t.Skip(text)
	case ctx.Err() == nil && !rowFigures.MatchString(text):
		t.Logf("row %d did not come to its end: %v", row, err)
	}
	return text, err != nil && bytes.Contains(out, []byte("the promise is broken"))
}
