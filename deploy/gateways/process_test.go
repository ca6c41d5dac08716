package gateways_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if sessiondPath != "" {
			_ = os.RemoveAll(filepath.Dir(sessiondPath))
		}
		os.Exit(status)
	}))
}

// process is a running program that listens on an address.
type process struct {
	cmd  *exec.Cmd
	out  output
	done chan struct{} // closed when the program has exited
}

// start starts a program and waits until it accepts connections at addr. The program
// is stopped when the test ends.
func start(t *testing.T, addr string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(cmd.Path), p.out.tail())
		}
	})
	waitFor(t, cmd.Path+" to listen at "+addr, func() bool {
		select {
		case <-p.done:
			t.Fatalf("%s exited before it listened", cmd.Path)
		default:
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return p
}

// stop terminates the program and waits until it has exited. A second call does
// nothing.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// output collects what a program prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.buf.Bytes()[max(0, o.buf.Len()-4000):])
}

// waitFor waits until condition returns true. It fails the test after two minutes.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited two minutes for %s", what)
		}
	}
}

// freeAddr returns a loopback address with a free port. It never returns an address twice, because
// the program that got the address first may not listen there yet.
func freeAddr(t *testing.T) string {
	t.Helper()
	usedAddrs.Lock()
	defer usedAddrs.Unlock()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !usedAddrs.addrs[addr] {
			usedAddrs.addrs[addr] = true
			return addr
		}
	}
}

var usedAddrs = struct {
	sync.Mutex
	addrs map[string]bool
}{addrs: map[string]bool{}}
