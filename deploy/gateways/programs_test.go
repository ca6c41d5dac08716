package gateways_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// gateway describes a gateway program and how to start it with our configuration file. A test
// changes only the addresses in the file and, if the test does not run as root, the user.
type gateway struct {
	name       string // name of the program and of its Debian package
	built      bool   // whether build.sh builds the program, because Debian does not have it or only an old one
	keepsConns bool   // whether the gateway reuses its connections to sessiond
	relays     bool   // whether the gateway relays any refusal of sessiond, and answers 500 if sessiond does not answer
	late       bool   // whether the gateway listens before it has read its file, and answers 404 until then
	normalises bool   // whether the gateway normalises paths
	noIDs      bool   // whether the gateway gives no ids to requests
	user       string // user to which the gateway switches when root starts it; empty: none
	command    func(t *testing.T, program, dir string, at addrs) *exec.Cmd
}

// addrs holds the addresses at which the gateway, sessiond and the application listen.
type addrs struct{ gateway, sessiond, app string }

var gateways = []gateway{
	{name: "nginx", keepsConns: true, command: func(t *testing.T, program, dir string, at addrs) *exec.Cmd {
		substitute(t, "nginx.conf", dir, "listen 8000;", "listen "+at.gateway+";", "auth_request /.sessiond/verify;", "client_max_body_size 50m; auth_request /.sessiond/verify;", "127.0.0.1:8080", at.sessiond, "127.0.0.1:9000", at.app)
		var owner string
		if os.Getuid() == 0 { // by default, the processes of nginx run as the user nobody, who cannot read dir
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
	{name: "haproxy", keepsConns: true, user: "haproxy", command: func(t *testing.T, program, dir string, at addrs) *exec.Cmd {
		const socket = "abns@sessiond-verify"
		_, port, _ := net.SplitHostPort(at.gateway)
		uniqueSocket := socket + "-" + port
		script := substitute(t, "haproxy-verify.lua", dir, socket, uniqueSocket)
		changes := []string{
			"bind :8000", "bind " + at.gateway, "/etc/haproxy/haproxy-verify.lua", script,
			socket, uniqueSocket, "127.0.0.1:8080", at.sessiond, "127.0.0.1:9000", at.app,
		}
		if os.Getuid() != 0 { // only root can switch to another user
			changes = append(changes, "user haproxy", "", "group haproxy", "")
		}
		config := substitute(t, "haproxy.cfg", dir, changes...)
		return exec.Command(program, "-db", "-f", config)
	}},
	{name: "caddy", command: caddy()},
	{name: "caddy", built: true, keepsConns: true, command: caddy("keepalive off", "keepalive 30s")}, // as the comment in the file says
	{name: "traefik", built: true, keepsConns: true, relays: true, late: true, normalises: true, noIDs: true, command: func(t *testing.T, program, dir string, at addrs) *exec.Cmd {
		file := substitute(t, "traefik.yml", dir, "127.0.0.1:8080", at.sessiond, "127.0.0.1:9000", at.app)
		args := strings.NewReplacer("\\\n#", "", ":8000", at.gateway, "/etc/traefik/sessiond.yml", file).Replace(traefikCommand(t))
		cmd := exec.Command(program, strings.Fields(args)...)
		cmd.Dir = t.TempDir() // not one with a traefik.yml, which Traefik would take for its static configuration
		return cmd
	}},
}

// caddy returns a function that returns the command that runs Caddyfile with the given further changes.
func caddy(oldnew ...string) func(t *testing.T, program, dir string, at addrs) *exec.Cmd {
	return func(t *testing.T, program, dir string, at addrs) *exec.Cmd {
		t.Helper()
		_, port, _ := net.SplitHostPort(at.gateway)
		oldnew := append(slices.Clone(oldnew), ":8000 {", ":"+port+" {\n\tbind 127.0.0.1\n", "127.0.0.1:8080", at.sessiond, "127.0.0.1:9000", at.app)
		main := write(t, dir, "main.caddy", "{\n\tadmin off\n}\nimport "+substitute(t, "Caddyfile", dir, oldnew...)+"\n")
		cmd := exec.Command(program, "run", "--adapter", "caddyfile", "--config", main)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
		return cmd
	}
}

// traefikCommand returns the command in the comment of traefik.yml, which has Traefik's static settings.
func traefikCommand(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("traefik.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, command, found := strings.Cut(string(data), "#   traefik ")
	command, _, _ = strings.Cut(command, "\n#\n")
	if !found {
		t.Fatal("traefik.yml has no command")
	}
	return command
}

// start starts the gateway in front of sessiond and the application. It returns the
// gateway's address.
func (g *gateway) start(t *testing.T, sessiond, app string) (addr string) {
	t.Helper()
	addr = freeAddr(t)
	p := start(t, addr, g.command(t, g.find(t), t.TempDir(), addrs{addr, sessiond, app}))
	if g.late {
		waitFor(t, g.name+" to read its file", func() bool { return dial(t, addr).do("GET", "/", nil).status != 404 })
	}
	if g.user != "" && os.Getuid() == 0 {
		want, err := user.Lookup(g.user)
		if err != nil {
			t.Fatal(err)
		}
		// Wait, because the gateway already listens before it switches from root to this user.
		waitFor(t, g.name+" to run as "+g.user, func() bool {
			info, err := os.Stat(fmt.Sprint("/proc/", p.cmd.Process.Pid))
			return err == nil && fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid) == want.Uid
		})
	}
	return addr
}

// title names the gateway in the tests' names.
func (g *gateway) title() string {
	if g.built {
		return g.name + " from build.sh"
	}
	return g.name
}

// find returns the path of the program. Debian installs some gateways in /usr/sbin,
// which may not be in PATH.
func (g *gateway) find(t *testing.T) string {
	t.Helper()
	if g.built {
		dir := os.Getenv("SESSIOND_TEST_GATEWAYS")
		if dir == "" {
			t.Skipf("NOT TESTED with a real %s, because SESSIOND_TEST_GATEWAYS is not set (see build.sh)", g.name)
		}
		return filepath.Join(dir, g.name)
	}
	for _, name := range []string{g.name, "/usr/sbin/" + g.name} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	message := fmt.Sprintf("NOT TESTED with a real %s, because it is not installed (Debian's package is %[1]s)", g.name)
	if os.Getenv("SESSIOND_TEST_REQUIRE_REAL") == "1" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// substitute copies one of our files to dir without its comments, and replaces each old text with
// the new text that follows it. It fails the test if the file lacks an old text, because the file
// would then keep an address that the test wants to change.
func substitute(t *testing.T, name, dir string, oldnew ...string) (path string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		if trimmed := strings.TrimSpace(line); !strings.HasPrefix(trimmed, "#") && !strings.HasPrefix(trimmed, "--") {
			text.WriteString(line)
		}
	}
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text.String(), oldnew[i]) {
			t.Fatalf("%s does not contain %q", name, oldnew[i])
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
