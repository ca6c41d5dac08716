package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The first run compiles everything for each platform, which takes minutes.
func TestProgram_BuildsOnEveryPlatform(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles for other platforms")
	}
	for _, platform := range []string{"windows/amd64", "darwin/arm64", "linux/arm"} {
		t.Run(platform, func(t *testing.T) {
			system, processor, _ := strings.Cut(platform, "/")
			build := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, "./cmd/sessiond")
			build.Dir, build.Env = root, append(os.Environ(), "GOOS="+system, "GOARCH="+processor, "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
