// Package stage sets up what is measured: builds of sessiond and the baselines as processes of their
// own, databases that nobody else uses, signing keys, tokens and sessions.
package stage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "github.com/lib/pq" // the driver "postgres"
	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"github.com/sessiond/sessiond/cmd/sessionbench/must"
)

// Stage is the setting of all measurements. Its methods end the run when something fails.
type Stage struct {
	Say      func(format string, args ...any) // prints progress
	Builds   []Build                          // the last is measured where there is room for one
	Keys     Keys
	Postgres *sql.DB // the server, as given
	Redis    *redis.Client
	redisURL *url.URL
	dir      string
	undo     []func() error
	failed   []error // of undo
}

// Build is one build of sessiond, with a database that it has migrated itself.
type Build struct {
	Name        string // empty: there is only one
	DatabaseURL string
	program     string
}

// Open prepares the stage. Each of builds is NAME=PATH or PATH; none: build the sessiond of this
// repository. The caller must call Close.
func (s *Stage) Open(ctx context.Context, databaseURL, redisURL string, builds []string) {
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		must.Do(errors.New("--redis-url: want the URL of a single Redis")) // err may quote the password
	}
	s.redisURL = must.Get(url.Parse(redisURL))
	s.Redis = redis.NewClient(options)
	s.Later(s.Redis.Close)
	server, err := url.Parse(databaseURL)
	if err != nil {
		must.Do(errors.New("--database-url: not a URL")) // as above
	}
	s.Postgres = must.Get(sql.Open("postgres", databaseURL))
	s.Later(s.Postgres.Close)
	s.dir = must.Get(os.MkdirTemp("", "sessionbench-"))
	s.Later(func() error { return os.RemoveAll(s.dir) })
	s.Keys = makeKeys(s.keysFile())
	if len(builds) == 0 {
		builds = []string{filepath.Join(s.dir, "sessiond")}
		s.Say("building sessiond")
		_, file, _, _ := runtime.Caller(0)
		root := filepath.Join(filepath.Dir(file), "../../..")
		command(ctx, nil, "go", "build", "-C", root, "-o", builds[0], "./cmd/sessiond")
	}
	for _, b := range builds {
		name, program, named := strings.Cut(b, "=")
		if !named {
			name, program = "", b
		}
		database := "sessionbench_" + strings.ToLower(rand.Text())
		must.Get(s.Postgres.ExecContext(ctx, "CREATE DATABASE "+database))
		s.Later(func() error {
			_, err := s.Postgres.ExecContext(context.WithoutCancel(ctx), "DROP DATABASE IF EXISTS "+database+" WITH (FORCE)")
			return err
		})
		server.Path = "/" + database
		command(ctx, []string{"SESSIOND_DATABASE_URL=" + server.String()}, program, "migrate")
		s.Builds = append(s.Builds, Build{name, server.String(), program})
	}
}

func (s *Stage) keysFile() string { return filepath.Join(s.dir, "keys.json") }

// Latest is the build that is measured where there is room for one.
func (s *Stage) Latest() Build { return s.Builds[len(s.Builds)-1] }

// command runs a program to its end.
func command(ctx context.Context, settings []string, name string, args ...string) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // G204: go, or the program to measure
	cmd.Env = append(environment(), settings...)
	if out, err := cmd.CombinedOutput(); err != nil {
		must.Do(fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out))
	}
}

// environment is ours without the settings of sessiond and PostgreSQL: the defaults are measured.
func environment() (kept []string) {
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "SESSIOND_") && !strings.HasPrefix(setting, "PG") {
			kept = append(kept, setting)
		}
	}
	return kept
}

// Later calls undo when the current scope ends.
func (s *Stage) Later(undo func() error) { s.undo = append(s.undo, undo) }

// Scope calls f and then undoes what f passed to Later, the last first.
func (s *Stage) Scope(f func()) {
	outer := s.undo
	s.undo = nil
	defer func() {
		for i := len(s.undo) - 1; i >= 0; i-- {
			s.failed = append(s.failed, s.undo[i]())
		}
		s.undo = outer
	}()
	f()
}

// Close undoes everything.
func (s *Stage) Close() error {
	s.Scope(func() {})
	return errors.Join(s.failed...)
}

// Process is a contender that serves HTTP. It is a process of its own, so that its CPU time and
// memory can be told from ours.
type Process struct {
	Addr, metrics string
	cmd           *exec.Cmd
	ended         chan struct{}
	err           error // set once ended is closed
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

const (
	stopTimeout  = 20 * time.Second // longer than sessiond takes to stop
	readyTimeout = 15 * time.Second
)

// start starts a program and waits until it is ready. It stops with the current scope. What it
// writes to standard error goes to a file.
func (s *Stage) start(ctx context.Context, p *Process, settings []string, words ...string) {
	stderr := must.Get(os.CreateTemp(s.dir, "stderr-"))
	defer stderr.Close() //nolint:errcheck // the process has its own
	p.ended = make(chan struct{})
	p.cmd = exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // G204: ourselves, or the program to measure
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopTimeout
	p.cmd.Env, p.cmd.Stderr = append(environment(), settings...), stderr
	must.Do(p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	s.Later(p.stop)
	for begin := time.Now(); p.Get("/readyz") == ""; {
		select {
		case <-p.ended:
			said, _ := os.ReadFile(stderr.Name())
			must.Do(fmt.Errorf("%s did not start: %w\n%s", words[0], p.err, said))
		case <-time.After(20 * time.Millisecond):
			if time.Since(begin) > readyTimeout {
				must.Do(fmt.Errorf("%s did not become ready", words[0]))
			}
		}
	}
}

func (p *Process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not stop when asked to", p.cmd.Path)
	}
	// An interrupt at the terminal reaches the children, too. A signal makes the exit code -1.
	if p.err != nil && p.cmd.ProcessState.ExitCode() != -1 && !errors.Is(p.err, context.Canceled) {
		return fmt.Errorf("%s: %w", p.cmd.Path, p.err)
	}
	return nil
}

// Service starts `sessiond serve` of a build on a Redis. wrap is put before the command. Every
// setting that is not needed keeps its default, but limits are off because all clients share one
// address. The log is discarded; writing it is part of what is measured.
func (s *Stage) Service(ctx context.Context, b Build, redisURL string, wrap []string, settings ...string) *Process {
	p := &Process{Addr: freeAddr(), metrics: freeAddr()}
	settings = append(settings, "SESSIOND_ADDR="+p.Addr, "SESSIOND_METRICS_ADDR="+p.metrics,
		"SESSIOND_DATABASE_URL="+b.DatabaseURL, "SESSIOND_REDIS_URL="+redisURL, "SESSIOND_SIGNING_KEYS_FILE="+s.keysFile(),
		"SESSIOND_ISSUER="+issuerURL, "SESSIOND_PUBLIC_URL="+issuerURL, "SESSIOND_LIMITS=off")
	s.start(ctx, p, settings, append(wrap[:len(wrap):len(wrap)], b.program, "serve")...)
	return p
}

// Baseline starts this program once more, as one of the baselines.
func (s *Stage) Baseline(ctx context.Context, name, redisURL string) *Process {
	p := &Process{Addr: freeAddr()}
	s.start(ctx, p, []string{
		EnvBaseline + "=" + name, envAddr + "=" + p.Addr, envRedisURL + "=" + redisURL, envKeysFile + "=" + s.keysFile(),
	}, must.Get(os.Executable()))
	return p
}

// Get returns the body of a 200 from the process, or nothing.
func (p *Process) Get(path string) string { return get("http://" + p.Addr + path) }

func get(url string) string {
	status, body, err := fasthttp.GetTimeout(nil, url, readyTimeout)
	if err != nil || status != fasthttp.StatusOK {
		return ""
	}
	return string(body)
}

// Goroutines asks a service for the number of its goroutines.
func (p *Process) Goroutines() float64 {
	_, value, _ := strings.Cut(get("http://"+p.metrics+"/metrics"), "\ngo_goroutines ")
	value, _, _ = strings.Cut(value, "\n")
	return must.Get(strconv.ParseFloat(value, 64))
}

// freeAddr picks a loopback address that nobody listens on.
func freeAddr() string {
	listener := must.Get(net.Listen("tcp", "127.0.0.1:0")) //nolint:noctx // it does not wait
	defer listener.Close()                                 //nolint:errcheck // nobody has connected
	return listener.Addr().String()
}

// LimitCPU makes a control group, cgroups(7), whose processes may together use the time of so many
// cores, as a container may. It returns the words to put before a command that is to run in it. It
// returns an error if this machine does not let us make one.
func (s *Stage) LimitCPU(cores float64) (wrap []string, err error) {
	const mount, period = "/sys/fs/cgroup", 100_000 // microseconds
	quota, name := strconv.Itoa(int(cores*period)), "sessionbench-"+rand.Text()
	dir, settings := filepath.Join(mount, "cpu", name), map[string]string{"cpu.cfs_period_us": strconv.Itoa(period), "cpu.cfs_quota_us": quota}
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil { // version 2
		dir, settings = filepath.Join(mount, name), map[string]string{"cpu.max": quota + " " + strconv.Itoa(period)}
	}
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // G301: as the kernel makes them
		return nil, err
	}
	s.Later(func() error { return os.Remove(dir) })
	for file, value := range settings {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644)) //nolint:gosec // G306: as the kernel made it
	}
	return []string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(dir, "cgroup.procs")}, err
}
