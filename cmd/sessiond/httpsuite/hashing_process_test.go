package httpsuite

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Logins must go on after the process that hashes passwords died, even if an upgrade has replaced or
// deleted the program's file.
func TestServe_LogsInAfterHashingProcessDiedAndProgramFileIsGone(t *testing.T) {
	t.Parallel()
	binary := copyProgram(t)
	s := startServeFrom(t, binary, 1)
	p := s.register(t)
	for _, change := range []struct {
		name string
		do   func() error
	}{
		{"replaced by another program", func() error {
			if err := os.Remove(binary); err != nil {
				return err
			}
			return os.WriteFile(binary, []byte("#!/bin/sh\nexit 1\n"), 0o755)
		}},
		{"deleted", func() error { return os.Remove(binary) }},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		process := hashingProcess(t, binary)
		if err := syscall.Kill(process, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// The service notices the end of the process at the first login, if not before.
		login := s.call(t, "POST", "/loginUser", credentials(p.username, password))
		if login.status == 503 {
			login = login.again()
		}
		if status := login.status; status != 200 {
			t.Errorf("login after the program's file was %s: %d, want 200", change.name, status)
		}
	}
}

func TestServe_ReplacesHashingProcessThatHangs(t *testing.T) {
	t.Parallel()
	binary := copyProgram(t)
	s := startServeFrom(t, binary, 1)
	p := s.register(t)
	if err := syscall.Kill(hashingProcess(t, binary), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	login := func() response { return s.call(t, "POST", "/loginUser", credentials(p.username, password)) }
	if r := login(); r.status != 503 || r.header.Get("Retry-After") == "" {
		t.Errorf("login while the process hangs: %d with Retry-After %q, want 503 with Retry-After", r.status, r.header.Get("Retry-After"))
	} else {
		t.Logf("answered 503 after %v", r.took)
	}
	login().want(t, 200)
}

// copyProgram returns the path of a copy of the sessiond binary that only this test uses.
func copyProgram(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("finds the hashing process in /proc")
	}
	data, err := os.ReadFile(program(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sessiond")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// hashingProcess returns the id of the process that hashes for the given binary.
func hashingProcess(t *testing.T, binary string) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if id, err := strconv.Atoi(filepath.Base(dir)); err == nil && hashes(id, binary) {
			return id
		}
	}
	t.Fatal("found no process that hashes")
	return 0
}

// hashes reports whether a process hashes for the binary. The file of the binary may be deleted.
func hashes(process int, binary string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(process))
	exe, _ := os.Readlink(filepath.Join(dir, "exe")) // fails if the process has ended
	arguments, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	return strings.TrimSuffix(exe, " (deleted)") == binary && bytes.Contains(arguments, []byte("\x00hash-worker"))
}
