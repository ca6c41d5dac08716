package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a contender that serves HTTP, in a process of its own so that its
// CPU and memory can be told from ours.
type process struct {
	addr    string
	metrics string // address of /metrics; empty: none
	cmd     *exec.Cmd
	input   io.Closer // nil: none
	ended   chan struct{}
	err     error // of the process; good once ended is closed
	said    tail
}

// start starts a program; how it is known to be ready is the caller's to say.
func start(cmd *exec.Cmd, input io.Closer) (*process, error) {
	p := &process{cmd: cmd, input: input, ended: make(chan struct{})}
	cmd.Stderr = &p.said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stopTimeout is more than the service takes to end.
const stopTimeout = 20 * time.Second

func (p *process) stop() error {
	if p.input != nil {
		_ = p.input.Close() // ends a baseline
	} else {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end when asked to", p.cmd.Path)
	}
	// Ctrl-C reaches the children, too.
	if p.err != nil && p.cmd.ProcessState.ExitCode() != -1 && !errors.Is(p.err, context.Canceled) {
		return fmt.Errorf("%s: %w: %s", p.cmd.Path, p.err, p.said.String())
	}
	return nil
}

func (p *process) cpu() (time.Duration, error) {
	own, _, err := processCPU(p.cmd.Process.Pid)
	return own, err
}

// startBaseline starts this program once more, as one of the baselines.
func (s *stage) startBaseline(ctx context.Context, name string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, baselineVerb, name) //nolint:gosec // G204: ourselves
	cmd.Env = append(environment(), envRedisURL+"="+s.space.url, envPrefix+"="+s.space.prefix, envKeysFile+"="+s.keysFile)
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the baseline %s: %w", name, err)
	}
	output, outputEnd, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the baseline %s: %w", name, err)
	}
	defer output.Close() //nolint:errcheck // only read from
	cmd.Stdout = outputEnd
	p, err := start(cmd, input)
	_ = outputEnd.Close() // the child has its own
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the baseline %s did not start", name), p.stop())
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

// startService starts `sessiond serve` on a Redis, with every setting that is
// not needed left at its default. Its log goes where it costs us nothing; that
// it is written at all is part of what is measured.
func (s *stage) startService(ctx context.Context, redisURL, prefix string) (*process, error) {
	return s.startWrapped(ctx, nil, redisURL, prefix)
}

// startWrapped is startService with a command that starts it, and settings.
// Limits are off: all that asks here has one address.
func (s *stage) startWrapped(ctx context.Context, wrap []string, redisURL, prefix string, settings ...string) (*process, error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	metrics, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	words := append(slices.Clone(wrap), s.program, "serve")
	cmd := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // G204: the program to measure
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	cmd.Env = append(environment(),
		"SESSIOND_ADDR="+addr, "SESSIOND_METRICS_ADDR="+metrics, "SESSIOND_DATABASE_URL="+s.databaseURL,
		"SESSIOND_REDIS_URL="+redisURL, "SESSIOND_REDIS_PREFIX="+prefix, "SESSIOND_SIGNING_KEYS_FILE="+s.keysFile,
		"SESSIOND_ISSUER="+tokenIssuer, "SESSIOND_PUBLIC_URL="+tokenIssuer, "SESSIOND_LIMITS=off")
	cmd.Env = append(cmd.Env, settings...)
	p, err := start(cmd, nil)
	if err != nil {
		return nil, err
	}
	p.addr, p.metrics = addr, metrics
	if err := p.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// readyTimeout is how long the service may take to come up.
const readyTimeout = 15 * time.Second

func (p *process) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := get(ctx, "http://"+p.addr+"/readyz"); err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s did not start: %s", p.cmd.Path, p.said.String())
		case <-ctx.Done():
			return fmt.Errorf("%s does not get ready: %w", p.cmd.Path, ctx.Err())
		case <-tick.C:
		}
	}
}

// goroutines asks the service how many it runs.
func (p *process) goroutines(ctx context.Context) (int, error) {
	text, err := get(ctx, "http://"+p.metrics+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, errors.New("the service's metrics have no go_goroutines")
}

// get returns the body of a 200, over a connection of its own.
func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // G704: the program that we have just started
	if err != nil {
		return "", fmt.Errorf("get %s: %w", url, err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request) //nolint:gosec // G704: as above
	if err != nil {
		return "", fmt.Errorf("get %s: %w", url, err)
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return "", errors.Join(fmt.Errorf("get %s: status %d", url, response.StatusCode), err)
	}
	return string(body), nil
}

// freeAddr picks a loopback address that nobody listens on.
func freeAddr(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// environment is ours without settings: what is measured is the default.
func environment() []string {
	var kept []string
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "SESSIOND_") && !strings.HasPrefix(setting, "PG") && !strings.HasPrefix(setting, "GODEBUG=") {
			kept = append(kept, setting)
		}
	}
	return kept
}

// tail keeps the end of what a program says.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const tailBytes = 4096

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	t.kept = t.kept[max(0, len(t.kept)-tailBytes):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}
