package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// inside is set in the process that TestStack runs in namespaces of its own.
const inside = "SESSIOND_COMPOSE_INSIDE"

// users are the users of the images. Debian's Postgres refuses to run without a name of its own.
var users = map[string]string{"haproxy": "99", "postgres": "postgres", "prometheus": "65534", "keys": "65532", "migrate": "65532", "prepare": "0"}

func TestStack_ServesThroughHAProxyAndSurvivesFailoverOfRedis(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("makes network namespaces, which needs root")
	}
	if os.Getenv(inside) == "" {
		dir, err := os.MkdirTemp("", "sessiond-compose") //nolint:usetesting // other users cannot reach a directory of t.TempDir
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
		build := exec.CommandContext(t.Context(), "./deploy/image-root.sh", filepath.Join(dir, "root"))
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		again := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
			os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
		again.Env = append(os.Environ(), inside+"="+dir)
		out, err := again.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	s := newStack(t, os.Getenv(inside))
	s.finish("prepare")
	s.start("postgres")
	s.finish("keys")
	s.finish("migrate")
	for _, name := range []string{"redis-1", "redis-2", "redis-3"} {
		s.start(name)
	}
	s.await("redis-1 has two replicas", func() bool { return strings.Contains(s.redis("redis-1", "info", "replication"), "connected_slaves:2") })
	for _, name := range []string{"sentinel-1", "sentinel-2", "sentinel-3"} {
		s.start(name)
	}
	s.await("the Sentinels know each other", func() bool {
		return strings.Contains(s.sentinel("info", "sentinel"), "status=ok,address=redis-1:6379,slaves=2,sentinels=3")
	})
	for _, name := range append([]string{"haproxy", "prometheus"}, replicas...) {
		s.start(name)
	}
	s.await("three replicas are ready", func() bool {
		return !slices.ContainsFunc(replicas, func(name string) bool { return s.get("http://"+name+":8080/readyz") != http.StatusOK })
	})
	s.await("HAProxy answers", func() bool { return s.get(public+"/readyz") == http.StatusOK })
	s.finish("prepare") // a second start keeps the passwords
	s.finish("keys")    // and the keys

	token := s.signIn("/registerUser", `{"username":"ada","email":"ada@example.com","password":"a long passphrase"}`)
	other := s.signIn("/loginUser", `{"username":"ada","password":"a long passphrase"}`)
	for range 9 { // HAProxy sends them to all replicas
		if status := s.check(token); status != http.StatusOK {
			t.Errorf("a check answers %d, want 200", status)
		}
	}

	s.stop("redis-1", syscall.SIGKILL)
	s.await("Sentinel names another master", func() bool {
		return !strings.HasPrefix(s.sentinel("sentinel", "get-master-addr-by-name", "sessiond"), "redis-1")
	})
	t.Logf("the new master is %s", strings.Fields(s.sentinel("sentinel", "get-master-addr-by-name", "sessiond"))[0])
	// The end is recorded in Postgres. It is answered 503 until the new master has a replica to enforce it on, too.
	s.await("the session ends", func() bool {
		status, _ := s.send(http.MethodDelete, public+"/v1/sessions/current", token, "")
		return status == http.StatusNoContent || status == http.StatusUnauthorized
	})
	s.start("redis-1")
	s.await("redis-1 becomes a replica", func() bool { return strings.Contains(s.redis("redis-1", "info", "replication"), "role:slave") })

	s.stop("sessiond-1", syscall.SIGTERM)
	for range 9 {
		if got, want := [2]int{s.check(token), s.check(other)}, [2]int{http.StatusUnauthorized, http.StatusOK}; got != want {
			t.Errorf("checks of an ended session and of another one answer %v, want %v", got, want)
		}
	}
	s.await("Prometheus scrapes the two replicas that run", func() bool {
		return strings.Contains(s.body("http://prometheus:9090/api/v1/query?query=sum(up)"), `"2"]`)
	})
	if rules := s.body("http://prometheus:9090/api/v1/rules"); !strings.Contains(rules, "SessiondDown") {
		t.Errorf("Prometheus has the rules %s", rules)
	}
}

const public = "http://haproxy:8000"

// stack runs the services of compose.yaml as processes.
type stack struct {
	*testing.T
	project *types.Project
	dir     string
	running map[string]*exec.Cmd
	client  *http.Client
}

// newStack makes a network with an address for each service, and mounts the files of the services. It may
// change the network and the mounts, because this process has its own.
func newStack(t *testing.T, dir string) *stack {
	s := &stack{t, load(t), dir, map[string]*exec.Cmd{}, &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	t.Cleanup(func() {
		for name, c := range s.running {
			if c.ProcessState == nil {
				s.stop(name, syscall.SIGKILL)
			}
			if log, err := os.ReadFile(s.log(name)); err == nil && t.Failed() {
				t.Logf("%s: %s", name, log[max(0, len(log)-2000):])
			}
		}
	})
	s.command("mount", "-t", "tmpfs", "tmpfs", "/run")
	s.command("sh", "-c", "ip link set lo up && ip link add br0 type bridge && ip link set br0 up && ip addr add 172.30.0.1/24 dev br0")
	hosts := "127.0.0.1 localhost\n"
	for i, name := range s.project.ServiceNames() {
		address := fmt.Sprintf("172.30.0.%d", i+10)
		hosts += address + " " + name + "\n"
		s.command("sh", "-ec", fmt.Sprintf(`ip netns add %[1]s
			ip link add v%[2]d type veth peer name eth0 netns %[1]s
			ip link set v%[2]d master br0 up
			ip -n %[1]s addr add %[3]s/24 dev eth0
			ip -n %[1]s link set eth0 up
			ip -n %[1]s link set lo up`, name, i, address))
		s.mkdir(s.workingDir(name), name)
		for _, v := range s.project.Services[name].Volumes {
			if !strings.HasPrefix(v.Target, "/run/") {
				continue
			}
			if v.Type == types.VolumeTypeVolume {
				s.mkdir(v.Target, "")
			} else if _, err := os.Stat(v.Target); err != nil {
				s.mkdir(filepath.Dir(v.Target), "")
				s.command("touch", v.Target)
				s.command("mount", "--bind", v.Source, v.Target)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
	s.command("mount", "--bind", filepath.Join(dir, "hosts"), "/etc/hosts")
	return s
}

func (s *stack) command(name string, args ...string) string {
	s.Helper()
	out, err := exec.CommandContext(s.Context(), name, args...).CombinedOutput()
	if err != nil {
		s.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// mkdir makes a directory, which belongs to the user of a service if that is given.
func (s *stack) mkdir(dir, owner string) {
	s.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.Fatal(err)
	}
	if owner != "" {
		s.command("chown", s.user(owner), dir)
	}
}

func (s *stack) workingDir(name string) string { return filepath.Join(s.dir, "work", name) }
func (s *stack) log(name string) string        { return filepath.Join(s.dir, name+".log") }

func (s *stack) user(name string) string {
	if u := users[name]; u != "" {
		return u
	}
	if u, _, _ := strings.Cut(s.project.Services[name].User, ":"); u != "" {
		return u
	}
	return users["keys"] // the image of sessiond has a user of its own
}

// start starts a service in its network, as its user and with its command and environment.
func (s *stack) start(name string) {
	s.Helper()
	service := s.project.Services[name]
	command := slices.Concat(service.Entrypoint, service.Command)
	env := []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin"}
	for key, value := range service.Environment {
		env = append(env, key+"="+*value)
	}
	switch {
	case service.Image == "sessiond:compose":
		command = append([]string{filepath.Join(s.dir, "root/sessiond")}, command...)
	case name == "prometheus": // its image has an entrypoint, and a volume for its data
		command = []string{"prometheus", command[0], "--storage.tsdb.path=" + s.workingDir(name)}
	case name == "postgres": // its image has an entrypoint that does this
		command = []string{"sh", "-ec", `PATH=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1):$PATH
			initdb --pgdata=data --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 --no-sync >&2
			echo "host all all all scram-sha-256" >>data/pg_hba.conf
			echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D data postgres >&2
			exec postgres -D data -c listen_addresses='*' -c unix_socket_directories= -c fsync=off`}
		s.command("chown", "-R", "postgres", "/run/postgres")
	}
	log, err := os.OpenFile(s.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.Fatal(err)
	}
	defer log.Close()
	c := exec.CommandContext(context.WithoutCancel(s.Context()), "ip", append([]string{"netns", "exec", name, "setpriv", "--reuid", s.user(name), "--clear-groups", "--no-new-privs"}, command...)...)
	c.Env, c.Dir, c.Stdout, c.Stderr = env, s.workingDir(name), log, log
	if err := c.Start(); err != nil {
		s.Fatal(err)
	}
	s.running[name] = c
	if name == "postgres" {
		check := service.HealthCheck.Test[1:]
		s.await("postgres is healthy", func() bool {
			return exec.CommandContext(s.Context(), "ip", append([]string{"netns", "exec", name}, check...)...).Run() == nil
		})
	}
}

// finish runs a service that ends.
func (s *stack) finish(name string) {
	s.Helper()
	s.start(name)
	if err := s.running[name].Wait(); err != nil {
		log, _ := os.ReadFile(s.log(name))
		s.Fatalf("%s: %v\n%s", name, err, log)
	}
}

func (s *stack) stop(name string, signal os.Signal) {
	s.Helper()
	c := s.running[name]
	if err := c.Process.Signal(signal); err != nil {
		s.Fatal(err)
	}
	_ = c.Wait() // a killed process returns an error
}

// await waits until a condition holds.
func (s *stack) await(what string, holds func() bool) {
	s.Helper()
	start := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Since(start) > 90*time.Second {
			s.Fatalf("it does not become true that %s", what)
		}
		<-tick.C
	}
	s.Logf("%s after %v", what, time.Since(start).Round(100*time.Millisecond))
}

// password returns the password of Redis, which prepare has made.
func (s *stack) password() string {
	s.Helper()
	text, err := os.ReadFile("/run/redis/server.conf")
	if err != nil {
		s.Fatal(err)
	}
	return strings.Fields(string(text))[1]
}

func (s *stack) redis(host string, args ...string) string {
	s.Helper()
	return s.cli(append([]string{"-h", host}, args...))
}

func (s *stack) sentinel(args ...string) string {
	s.Helper()
	return s.cli(append([]string{"-h", "sentinel-1", "-p", "26379"}, args...))
}

func (s *stack) cli(args []string) string {
	s.Helper()
	c := exec.CommandContext(s.Context(), "redis-cli", args...)
	c.Env = append(os.Environ(), "REDISCLI_AUTH="+s.password())
	out, _ := c.CombinedOutput() // the server may not answer yet
	return string(out)
}

// send sends a request and returns its response's status and body. The status is 0 if there is none.
func (s *stack) send(method, url, token, body string) (status int, text []byte) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	text, _ = io.ReadAll(res.Body)
	return res.StatusCode, text
}

func (s *stack) get(url string) int {
	status, _ := s.send(http.MethodGet, url, "", "")
	return status
}

func (s *stack) body(url string) string {
	_, text := s.send(http.MethodGet, url, "", "")
	return string(text)
}

func (s *stack) check(token string) int {
	status, _ := s.send(http.MethodGet, public+"/v1/verify", token, "")
	return status
}

func (s *stack) signIn(path, body string) (token string) {
	s.Helper()
	status, text := s.send(http.MethodPost, public+path, "", body)
	var reply struct{ Token string }
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&reply); err != nil || reply.Token == "" {
		s.Fatalf("%s answers %d %s", path, status, text)
	}
	return reply.Token
}
