package gateways_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if builtPath != "" {
			_ = os.RemoveAll(filepath.Dir(builtPath))
		}
		os.Exit(status)
	}))
}

// process is a program that serves an address.
type process struct {
	cmd  *exec.Cmd
	out  output
	done chan struct{} // closed when it has ended
}

// start starts a program and waits until it accepts connections at addr. It is
// ended with the test.
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
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), p.out.tail())
		}
	})
	poll(t, cmd.Path+" at "+addr, func() bool {
		select {
		case <-p.done:
			t.Fatalf("%s ended early", cmd.Path)
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

// stop asks the program to end and waits until it has. It may be called twice.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// output keeps what a program says.
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

// poll waits until it is so.
func poll(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// freeAddr names a loopback port that nobody listens on. Each call names another
// one for as long as the program runs.
func freeAddr(t *testing.T) string {
	t.Helper()
	handedOut.Lock()
	defer handedOut.Unlock()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !handedOut.addrs[addr] {
			handedOut.addrs[addr] = true
			return addr
		}
	}
}

var handedOut = struct {
	sync.Mutex
	addrs map[string]bool
}{addrs: map[string]bool{}}

// gateway is one of the programs, and how its file is run: with nothing in it
// changed but addresses, and whom it runs as where the test is not root.
type gateway struct {
	name  string // of the program, and of Debian's package
	keeps bool   // its connections to sessiond
	user  string // whom its file has it go on as when root starts it
	run   func(t *testing.T, program, dir string, at addrs) *exec.Cmd
}

type addrs struct{ listen, sessiond, app string }

var gateways = []gateway{
	{"nginx", true, "", func(t *testing.T, program, dir string, at addrs) *exec.Cmd {
		substitute(t, "nginx.conf", dir, "listen 8000;", "listen "+at.listen+";", "127.0.0.1:8080", at.sessiond, "127.0.0.1:9000", at.app)
		var owner string
		if os.Getuid() == 0 { // its workers would be nobody, who may not enter dir
			owner = "user root root;\n"
		}
		main := owner + `worker_processes 2;
			error_log stderr;
			pid ` + dir + `/pid;
			events { }
			http {
				access_log off;
				client_body_temp_path ` + dir + `/1;
				proxy_temp_path ` + dir + `/2;
				fastcgi_temp_path ` + dir + `/3;
				uwsgi_temp_path ` + dir + `/4;
				scgi_temp_path ` + dir + `/5;
				include ` + dir + `/nginx.conf;
			}`
		return exec.Command(program, "-e", "stderr", "-p", dir, "-c", write(t, dir, "main.conf", main), "-g", "daemon off;")
	}},
	{"haproxy", true, "haproxy", func(t *testing.T, program, dir string, at addrs) *exec.Cmd {
		const socket = "abns@sessiond-verify"
		_, port, _ := net.SplitHostPort(at.listen)
		ours := socket + "-" + port
		script := substitute(t, "haproxy-verify.lua", dir, socket, ours)
		changes := []string{
			"bind :8000", "bind " + at.listen, "/etc/haproxy/haproxy-verify.lua", script,
			socket, ours, "127.0.0.1:8080", at.sessiond, "127.0.0.1:9000", at.app,
		}
		if os.Getuid() != 0 { // only root can go on as somebody else
			changes = append(changes, "user haproxy", "", "group haproxy", "")
		}
		config := substitute(t, "haproxy.cfg", dir, changes...)
		return exec.Command(program, "-db", "-f", config)
	}},
	{"caddy", false, "", func(t *testing.T, program, dir string, at addrs) *exec.Cmd {
		_, port, _ := net.SplitHostPort(at.listen)
		site := substitute(t, "Caddyfile", dir, ":8000 {", ":"+port+" {\n\tbind 127.0.0.1\n", "127.0.0.1:8080", at.sessiond, "127.0.0.1:9000", at.app)
		main := write(t, dir, "main.caddy", "{\n\tadmin off\n}\nimport "+site+"\n")
		cmd := exec.Command(program, "run", "--adapter", "caddyfile", "--config", main)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
		return cmd
	}},
}

// start starts the gateway and returns its address.
func (g *gateway) start(t *testing.T, sessiond, app string) (listen string) {
	t.Helper()
	listen = freeAddr(t)
	p := start(t, listen, g.run(t, g.find(t), t.TempDir(), addrs{listen, sessiond, app}))
	if g.user != "" && os.Getuid() == 0 {
		want, err := user.Lookup(g.user)
		if err != nil {
			t.Fatal(err)
		}
		// It listens before it lets go of root.
		poll(t, g.name+" as "+g.user, func() bool {
			info, err := os.Stat(fmt.Sprint("/proc/", p.cmd.Process.Pid))
			return err == nil && fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid) == want.Uid
		})
	}
	return listen
}

// find looks for the program also where Debian has those that are for root.
func (g *gateway) find(t *testing.T) string {
	t.Helper()
	for _, name := range []string{g.name, "/usr/sbin/" + g.name} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	message := fmt.Sprintf("NOT TESTED with a real %s: it is not installed; Debian's package is %[1]s", g.name)
	if os.Getenv("SESSIOND_TEST_REQUIRE_REAL") == "1" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// substitute writes one of our files to dir with pairs of old and new text
// replaced. Each old one must be there, and not in a comment alone: those are
// left out.
func substitute(t *testing.T, name, dir string, oldnew ...string) (path string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		if comment := strings.TrimSpace(line); !strings.HasPrefix(comment, "#") && !strings.HasPrefix(comment, "--") {
			text.WriteString(line)
		}
	}
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text.String(), oldnew[i]) {
			t.Fatalf("%s does not say %q", name, oldnew[i])
		}
	}
	return write(t, dir, name, strings.NewReplacer(oldnew...).Replace(text.String()))
}

func write(t *testing.T, dir, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
