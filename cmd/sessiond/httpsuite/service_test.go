package httpsuite

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/session/issuer"
)

// service is a running sessiond that a test sends requests to.
type service struct {
	base     string   // URL of the first replica
	replicas []string // URLs of all replicas
	mails    func() []keptMail
	logs     *lockedBuffer
	prefix   string  // prefix of the service's keys in Redis; empty for sessiond dev
	env      environ // with which verbs of operators reach the stores
}

// operate runs a verb of the command line on the service's stores, and returns what it prints.
func (s *service) operate(t testing.TB, args ...string) (out, complaints string, err error) {
	t.Helper()
	var stdout, stderr strings.Builder
	err = app.Run(t.Context(), args, s.env.lookup, &stdout, &stderr)
	return stdout.String(), stderr.String(), err
}

// mustOperate is like operate, but fails the test if the verb does.
func (s *service) mustOperate(t testing.TB, args ...string) string {
	t.Helper()
	out, complaints, err := s.operate(t, args...)
	if err != nil {
		t.Fatalf("sessiond %v: %v\n%s", args, err, complaints)
	}
	return out
}

// administrator registers a user with the role admin.
func (s *service) administrator(t testing.TB) person {
	t.Helper()
	p := s.register(t)
	s.mustOperate(t, "admin", "users", "roles", p.username, "--add", "admin")
	return p
}

// eachMode runs f twice: against 'sessiond dev' in this process, and against 'sessiond serve' as a
// process of its own on real Postgres and Redis servers.
//
// The test runs in parallel with others, because most of its time it waits for responses.
func eachMode(t *testing.T, f func(t *testing.T, s *service), settings ...string) {
	t.Helper()
	t.Parallel()
	eachModeAlone(t, f, settings...)
}

// eachModeAlone is like eachMode, but no other test runs at the same time. Tests that count
// requests need this, because other tests slow Redis down.
func eachModeAlone(t *testing.T, f func(t *testing.T, s *service), settings ...string) {
	t.Helper()
	t.Run("against sessiond dev", func(t *testing.T) { f(t, startDev(t, t.TempDir(), settings...)) })
	t.Run("against sessiond serve", func(t *testing.T) { f(t, startServe(t, 1, settings...)) })
}

// startDev runs 'sessiond dev' in this process, because the race detector then checks it. The
// settings have the form NAME=value, without the prefix SESSIOND_. The end of the test stops the
// service.
func startDev(t *testing.T, data string, settings ...string) *service {
	t.Helper()
	s, stop := startStoppableDev(t, data, settings...)
	t.Cleanup(stop)
	return s
}

// startStoppableDev runs 'sessiond dev' in this process until the caller calls stop. Calling stop
// again does nothing.
func startStoppableDev(t *testing.T, data string, settings ...string) (s *service, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	// The rate limits are off, because most tests sign in many times from one address. The file
	// rate_limits_test.go tests the limits.
	env := environment(append([]string{"BCRYPT_COST=4", "LIMITS=off"}, settings...))
	out, logs := &lockedBuffer{}, &lockedBuffer{}
	done := make(chan error, 1)
	go func() {
		done <- app.Run(ctx, []string{"dev", "--addr", "127.0.0.1:0", "--data", data}, env.lookup, out, logs)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Errorf("dev stopped with error: %v", err)
		}
	})
	s = &service{logs: logs, env: environment([]string{"DATA=" + data})}
	s.base = awaitOutput(t, out, done, regexp.MustCompile(`(http://127\.0\.0\.1:\d+) `))
	s.replicas = []string{s.base}
	s.mails = func() []keptMail {
		var kept []keptMail
		s.call(t, "GET", "/dev/mail").into(t, &kept)
		return kept
	}
	return s, stop
}

// startServe starts n replicas of 'sessiond serve' as processes. They use a new Postgres database,
// the Redis server that all tests share, and a mail server for this test.
func startServe(t *testing.T, n int, settings ...string) *service {
	t.Helper()
	return startServeFrom(t, program(t), n, settings...)
}

// startServeFrom is startServe for a given sessiond binary.
func startServeFrom(t *testing.T, binary string, n int, settings ...string) *service {
	t.Helper()
	env := serveEnvironment(t)
	s := &service{logs: &lockedBuffer{}, prefix: env["SESSIOND_REDIS_PREFIX"], env: env}
	env.set(settings)
	if _, set := env["SESSIOND_SMTP_URL"]; !set {
		server := startSMTP(t)
		env["SESSIOND_SMTP_URL"], env["SESSIOND_MAIL_FROM"] = "smtp+plain://"+server.addr, "id@example.com"
		s.mails = server.received
	}
	t.Cleanup(s.printComplaints(t))
	runProgram(t, binary, env, "migrate")
	for range n {
		s.replicas = append(s.replicas, startReplica(t, binary, env, s.logs))
	}
	s.base = s.replicas[0]
	return s
}

// startReplica starts one process of 'sessiond serve' and returns its base URL.
func startReplica(t *testing.T, binary string, env environ, logs *lockedBuffer) string {
	t.Helper()
	base, _ := startKillableReplica(t, binary, env, logs)
	return base
}

// startKillableReplica starts one process of 'sessiond serve'. The function kill ends the process
// without a chance to clean up, as if its machine had failed.
func startKillableReplica(t *testing.T, binary string, env environ, logs *lockedBuffer) (base string, kill func()) {
	t.Helper()
	own := &lockedBuffer{}
	cmd := exec.Command(binary, "serve")
	cmd.Env = env.list()
	cmd.Stdout, cmd.Stderr = io.MultiWriter(own, logs), io.MultiWriter(own, logs)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var killed bool
	kill = func() {
		killed = true
		_ = cmd.Process.Kill()
		if err := <-done; err == nil {
			t.Error("a killed replica exited without an error")
		}
	}
	t.Cleanup(func() {
		if killed {
			return
		}
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("a replica stopped with error: %v", err)
			}
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			t.Error("a replica did not stop after an interrupt")
		}
	})
	return "http://" + awaitOutput(t, own, done, regexp.MustCompile(`"msg":"serving","addr":"([^"]+)"`)), kill
}

// logged returns the log of all requests so far. Log lines of another process arrive with a delay.
// logged therefore sends one more request to each replica and waits for the log line of that
// request.
func (s *service) logged(t *testing.T) string {
	t.Helper()
	for _, base := range s.replicas {
		id := issuer.NewID()
		callAt(t, base, "GET", "/nowhere", header("X-Request-Id", id)).want(t, 404)
		awaitOutput(t, s.logs, nil, regexp.MustCompile(`\brequest_id"?[:=]"?(`+id+`).*\n`))
	}
	return s.logs.String()
}

// printComplaints returns a cleanup function that prints the first 20 warnings and errors of the
// service if the test has failed.
func (s *service) printComplaints(t *testing.T) func() {
	return func() {
		if !t.Failed() {
			return
		}
		const most = 20
		printed := 0
		for line := range strings.Lines(s.logs.String()) {
			if !strings.Contains(line, `"level":"INFO"`) && printed < most {
				t.Log(strings.TrimSpace(line))
				printed++
			}
		}
	}
}

var (
	buildOnce sync.Once
	builtPath string
	buildErr  error
)

// program returns the path of the sessiond binary, which it builds on the first call. The build has
// no race detector, because the password hashes of these tests would otherwise take minutes.
func program(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "sessiond-test-") //nolint:usetesting // the directory must outlive the first test that needs it
		if err != nil {
			buildErr = err
			return
		}
		builtPath = filepath.Join(dir, "sessiond")
		out, err := exec.Command("go", "build", "-o", builtPath, "..").CombinedOutput()
		if err != nil {
			buildErr = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return builtPath
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if builtPath != "" {
			_ = os.RemoveAll(filepath.Dir(builtPath))
		}
		os.Exit(status)
	}))
}

func runProgram(t *testing.T, binary string, env environ, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = env.list()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sessiond %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// runLong skips a test unless SESSIOND_TEST_LONG=1. The skipped tests compare response times, which
// takes minutes and needs an idle machine.
func runLong(t *testing.T) {
	t.Helper()
	if !isLong() {
		t.Skip("takes minutes; runs with SESSIOND_TEST_LONG=1")
	}
}

func isLong() bool { return os.Getenv("SESSIOND_TEST_LONG") == "1" }
