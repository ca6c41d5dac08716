package main_test

import (
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The bounds of the image, in bytes. A registry stores it with gzip.
const (
	maxImage      = 40_000_000
	maxCompressed = 16_000_000
)

var imageDir string // what buildImageRoot has made

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(imageDir) // it is "" if no test needed it
	os.Exit(code)
}

// imageRoot returns the directory with the files of the image, which the Dockerfile copies into it.
func imageRoot(t *testing.T) string {
	t.Helper()
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("compiles the program for production, which is for Linux")
	}
	dir, err := buildImageRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var buildImageRoot = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sessiond-image")
	if err != nil {
		return "", err
	}
	imageDir = dir
	build := exec.Command("./deploy/image-root.sh", filepath.Join(dir, "root"), "v1.2.3")
	build.Dir, build.Stderr = root, os.Stderr
	return filepath.Join(dir, "root"), build.Run()
})

// production runs the program for production. Its environment has only the given variables.
func production(t *testing.T, env []string, args ...string) (output string, err error) {
	t.Helper()
	program := exec.CommandContext(t.Context(), filepath.Join(imageRoot(t), "sessiond"), args...)
	program.Env = env
	out, err := program.CombinedOutput()
	return string(out), err
}

func TestProduction_HasNoCodeOfDevAndTests_ASVS_V15_2_3(t *testing.T) {
	forTests := []string{"modernc.org/sqlite", "github.com/alicebob/miniredis", module + "/redisstore/embedded"}
	list := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"list", "-deps"}, args...), "./cmd/sessiond")...)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	everything, linked := list(), list("-tags", "production")
	program := filepath.Join(imageRoot(t), "sessiond")
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range forTests {
		if !strings.Contains(everything, name) {
			t.Errorf("the program with dev does not link %s, so this test proves nothing", name)
		}
		if strings.Contains(linked, name) {
			t.Errorf("the program for production links %s", name)
		}
		for _, m := range info.Deps {
			if strings.HasPrefix(m.Path, name) {
				t.Errorf("the image's program has the module %s", m.Path)
			}
		}
	}
	// The Go runtime keeps the names of all functions in the program.
	if !bytes.Contains(content, []byte(module+"/identity/hashing.NewHasher")) {
		t.Error("the program has no names of functions, so this test proves less")
	}
	for _, name := range append(forTests, module+"/identity/hashing.NewInsecureHasher", module+"/identity/mail.NewDevMailbox") {
		if bytes.Contains(content, []byte(name)) {
			t.Errorf("the image's program has code of %s", name)
		}
	}
}

func TestProduction_RefusesWhatOnlyTestsNeed_ASVS_V15_2_3(t *testing.T) {
	complete := []string{
		"SESSIOND_DATABASE_URL=postgres://127.0.0.1:1/sessiond", "SESSIOND_REDIS_URL=redis://127.0.0.1:1", "SESSIOND_SIGNING_KEYS_FILE=/nonexistent",
		"SESSIOND_ISSUER=https://id.example.com", "SESSIOND_PUBLIC_URL=https://id.example.com",
	}
	for _, c := range []struct {
		env, args []string
		want      string
	}{
		{nil, []string{"dev"}, `unknown verb "dev"`},
		{nil, []string{"admin", "stats", "--data", "."}, "unknown flag --data"},
		{nil, []string{"migrate", "--database-url", "sqlite:/nonexistent"}, "the database URL must begin with postgres://"},
		{append(complete, "SESSIOND_LIMITS=off"), []string{"serve"}, "SESSIOND_LIMITS: off is for tests and benchmarks"},
		{complete, []string{"serve", "--limits", "off"}, "SESSIOND_LIMITS: off is for tests and benchmarks"},
		{append(complete, "SESSIOND_LIMITS=off"), []string{"doctor"}, "SESSIOND_LIMITS: off is for tests and benchmarks"},
		{complete, []string{"serve"}, "SESSIOND_SIGNING_KEYS_FILE: "}, // the limits are on, so it comes further
	} {
		if out, err := production(t, c.env, c.args...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("sessiond %v answers %v and %q, want an error with %q", c.args, err, out, c.want)
		}
	}
}

func TestProduction_HasVerbsOfOperators(t *testing.T) {
	for _, verb := range []string{"serve", "migrate", "doctor", "admin", "clients", "keys", "import", "version"} {
		if out, err := production(t, nil, verb, "--help"); err != nil || !strings.Contains(out, "Usage:\n  sessiond "+verb) {
			t.Errorf("sessiond %s --help answers %v and %q", verb, err, out)
		}
	}
	if out, err := production(t, nil, "version"); err != nil || !strings.HasPrefix(out, "sessiond v1.2.3\n") {
		t.Errorf("sessiond version answers %v and %q, want the version that the build was given", err, out)
	}
	if out, err := production(t, nil); err != nil || strings.Contains(out, "sessiond dev") {
		t.Errorf("sessiond answers %v and %q, want help without dev", err, out)
	}
}

func TestImage_HoldsOnlyItsFilesAndStaysSmall(t *testing.T) {
	var names []string
	var size, compressed counter
	pack := gzip.NewWriter(&compressed)
	all := io.MultiWriter(&size, pack)
	dir := imageRoot(t)
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o022 != 0 || info.Mode().Perm()&0o004 == 0 {
			t.Errorf("%s has mode %v; want one that the image's user may read and not write", name, info.Mode())
		}
		if entry.IsDir() {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		names = append(names, strings.TrimPrefix(name, dir))
		_, err = all.Write(content)
		return err
	})
	if err := pack.Close(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/etc/group", "/etc/passwd", "/etc/ssl/certs/ca-certificates.crt", "/sessiond"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("the image holds %v, %v; want %v", names, err, want)
	}
	t.Logf("the image has %d bytes, and %d compressed", size, compressed)
	if size > maxImage || compressed > maxCompressed {
		t.Errorf("the image has %d bytes, and %d compressed; want at most %d and %d", size, compressed, maxImage, maxCompressed)
	}
}

// counter counts the bytes that are written to it.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
