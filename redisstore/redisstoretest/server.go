package redisstoretest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// StartServer starts a redis-server for one test. The test may change the server's settings, make
// it a replica or stop it. The server listens on a free loopback port, saves nothing to disk, and
// is killed when the test ends. args are added to its command line, for example "--maxmemory",
// "1mb".
func StartServer(t testing.TB, args ...string) (redisURL string) {
	t.Helper()
	return "redis://" + startOnFreePort(t, func(port string) []string {
		return append([]string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir()}, args...)
	})
}

// StartSentinel starts a Sentinel that monitors the master at redisURL, with a quorum of 1. It returns a
// URL that finds the master through the Sentinel. settings are for the master, for example "quorum 2".
func StartSentinel(t testing.TB, redisURL string, settings ...string) (sentinelURL string) {
	t.Helper()
	return "redis+sentinel://" + startOnFreePort(t, func(port string) []string {
		return []string{sentinelConfig(t, port, strings.TrimPrefix(redisURL, "redis://"), settings), "--sentinel"}
	}) + "?master=main"
}

// sentinelConfig returns the path of a configuration of a Sentinel. It must be a file, because Sentinel
// writes its state into it.
func sentinelConfig(t testing.TB, port, master string, settings []string) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\nsentinel monitor main %s 1\n", port, strings.Replace(master, ":", " ", 1))
	for _, setting := range settings {
		text += "sentinel " + strings.Replace(setting, " ", " main ", 1) + "\n"
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// startOnFreePort starts redis-server on a free port and returns the server's address. The function
// args returns the server's command line for a port.
func startOnFreePort(t testing.TB, args func(port string) []string) (addr string) {
	t.Helper()
	program := os.Getenv("SESSIOND_TEST_REDIS_SERVER")
	if program == "" {
		program = "redis-server"
	}
	program, err := exec.LookPath(program)
	if err != nil {
		missing(t, "NOT TESTED on a real Redis, because redis-server is not in PATH and SESSIOND_TEST_REDIS_SERVER is not set")
	}
	for range 5 {
		addr := freeAddr(t)
		_, port, _ := strings.Cut(addr, ":")
		log, ok := start(t, program, args(port))
		if ok {
			return addr
		}
		// Another process may have taken the port since freeAddr found it.
		if !strings.Contains(log, "Address already in use") {
			t.Fatalf("%s did not start:\n%s", program, log)
		}
	}
	t.Fatal("found no free port for redis-server")
	return ""
}

// start starts redis-server and reports whether it accepts connections. If not, start returns the
// server's log.
func start(t testing.TB, program string, args []string) (output string, ok bool) {
	t.Helper()
	// The server must not end with the test's context, because the test's cleanups still need it.
	server := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill() // Kill fails if the server has already ended
		_ = server.Wait()         // Wait returns an error because the server was killed
	})
	var log strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		log.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "Ready to accept connections") || strings.Contains(lines.Text(), "+monitor master") {
			go io.Copy(io.Discard, out) //nolint:errcheck // Copy ends when the server closes its output
			return "", true
		}
	}
	return log.String(), false
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
