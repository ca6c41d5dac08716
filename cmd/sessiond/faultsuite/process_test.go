package faultsuite

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long the suite waits for something that must happen. It is far more than a busy
// machine needs.
const patience = 2 * time.Minute

// await waits until a condition holds, and fails the test if it does not in time.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for this: %s", patience, what)
		}
	}
}

// process is a child process whose output goes to a file.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the process has exited
}

// spawn starts a program. If asServer is true and the test runs as root, the program runs as an
// unprivileged user, because Postgres refuses to run as root. The process is killed at the end of
// the test at the latest.
func spawn(t testing.TB, dir, name string, asServer bool, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, env, log, log
	p.cmd.SysProcAttr = childAttributes()
	if asServer {
		p.cmd.SysProcAttr.Credential = unprivileged()
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill kills the process at once and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop asks the process to end, and kills it if it does not.
func (p *process) stop(s syscall.Signal) {
	p.signal(s)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.kill()
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// tail returns the end of the process's output.
func (p *process) tail() string {
	text, _ := os.ReadFile(p.log)
	return string(text[max(0, len(text)-3000):])
}

// logged returns the lines of the process's output that contain a text, at most 20 of them. It leaves out
// HAProxy's own requests.
func (p *process) logged(text string) string {
	all, _ := os.ReadFile(p.log)
	var found []string
	for line := range strings.Lines(string(all)) {
		if strings.Contains(line, text) && !strings.Contains(line, "/readyz") && len(found) < 20 {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// awaitUp waits until ready returns true, and fails the test if the process ends before.
func (p *process) awaitUp(t testing.TB, ready func() bool) {
	t.Helper()
	await(t, p.name+" is ready", func() bool {
		if !p.running() {
			t.Fatalf("%s ended before it was ready:\n%s", p.name, p.tail())
		}
		return ready()
	})
}

func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// unprivileged returns the user that servers run as if the test runs as root, otherwise nil.
var unprivileged = sync.OnceValue(func() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
})

// serverDir creates a directory that servers may write to.
func serverDir(t testing.TB, parent, name string) string {
	t.Helper()
	dir := filepath.Join(parent, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if c := unprivileged(); c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// find returns the path of a program. It skips the test if the program is not installed, and fails
// it if SESSIOND_TEST_REQUIRE_REAL is 1.
func find(t testing.TB, name string, patterns ...string) string {
	t.Helper()
	candidates := []string{name, "/usr/sbin/" + name}
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern)
		candidates = append(found, candidates...)
	}
	for i := range candidates {
		if path, err := exec.LookPath(candidates[i]); err == nil {
			return path
		}
	}
	message := "NOT TESTED, because " + name + " is not installed (./deploy/servers.sh installs it)"
	if os.Getenv("SESSIOND_TEST_REQUIRE_REAL") == "1" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// output runs a program to its end and returns what it printed.
func output(t testing.TB, env []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out)
}

var ports = struct {
	sync.Mutex
	next int
}{next: 12000 + os.Getpid()%200*49}

// freePort returns a port that is free, and whose cluster bus port (10,000 higher) is free too. Both
// are below the range of ports for outgoing connections, and both have five digits, which
// [link.rename] needs. It never returns a port twice.
func freePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 10000 {
		port := ports.next
		if ports.next++; ports.next >= 22000 {
			ports.next = 12000
		}
		if isFree(port) && isFree(port+10000) {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", local(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// local returns the loopback address with this port.
func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
