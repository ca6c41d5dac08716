package faultsuite

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// versionBefore is what an upgrade starts from: the tag of the release before, or a commit. Change it with
// each release. Until there is one, it is the last commit whose tables lack the newest migrations.
const versionBefore = "0a1abf3408beccfeba5324474edc77c8b920ed86"

var before struct {
	sync.Once
	dir string
	err error
}

// sourceBefore returns a directory with the source of the version before. It reports false if the history
// of this repository does not have it, as in a shallow clone.
func sourceBefore(t testing.TB) (dir string, ok bool) {
	t.Helper()
	before.Do(func() {
		if before.dir, before.err = os.MkdirTemp("", "sessiond-before-"); before.err != nil { //nolint:usetesting // it outlives the first test that needs it
			return
		}
		archive := filepath.Join(before.dir, "source.tar")
		for _, args := range [][]string{
			{"git", "-C", "../../..", "archive", "-o", archive, versionBefore},
			{"tar", "-xf", archive, "-C", before.dir},
		} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				before.err = errors.New(strings.TrimSpace(args[0] + ": " + err.Error() + ": " + string(out)))
				return
			}
		}
	})
	return before.dir, before.err == nil
}

// programBefore returns the path of the version before. Without -old, it builds that version. If it cannot,
// it returns this version.
func programBefore(t testing.TB) string {
	t.Helper()
	if *oldProgram != "" {
		return *oldProgram
	}
	dir, ok := sourceBefore(t)
	if !ok {
		t.Logf("NOT TESTED with the version before, %s, because its source cannot be had: %v", versionBefore, before.err)
		return program(t)
	}
	path := filepath.Join(dir, "sessiond-before")
	if _, err := os.Stat(path); err != nil {
		output(t, os.Environ(), "go", "build", "-C", dir, "-o", path, "./cmd/sessiond")
	}
	return path
}
