package hashing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Worker is an [Engine] that hashes in a process of its own. The process yields the CPU to everything
// else on the machine.
//
// A hash keeps a core busy for tens of milliseconds. A token check that arrives in that time would have
// to wait until the Go scheduler or the kernel takes the core away. A low priority for some threads of
// this process does not help, because the garbage collector waits for all threads of its process.
// Nothing waits for the worker's threads. See deploy/docs/decisions/0012.
type Worker struct {
	command func() *exec.Cmd
	idle    bool
	log     *slog.Logger

	askAfter, hungAfter time.Duration // the constants, except in tests

	mu      sync.Mutex
	current *process
	closed  bool
}

// process is a worker process that was started.
type process struct {
	client *rpc.Client
	kill   func() error
	ready  chan struct{} // closed when the process has answered for the first time
	ended  chan struct{} // closed when the process has ended
}

// A hash has no deadline of its own, because an honest one may take half a minute while other programs
// keep the machine busy. Instead, a call that has waited for askAfter asks the process for a sign of
// life. That needs far less CPU time than a hash, so it is quick even then. A process that does not
// answer within hungAfter is killed. Until its first answer it has startWithin, because a start takes
// as much CPU time as a hash.
const (
	askAfter    = 2 * time.Second
	hungAfter   = 10 * time.Second // the client gets its 503 before the HTTP server's write timeout
	startWithin = 2 * time.Minute
)

// StartWorker starts the worker process. The command must call [RunWorker], and nothing else may use
// its standard streams. The parameter slots is how many hashes run at once. If idle is set, a hash runs
// only when nothing else wants the CPU, until it has taken far longer than usual (see farBehind).
func StartWorker(command []string, slots int, idle bool, log *slog.Logger) (*Worker, error) {
	w := &Worker{log: log, idle: idle, askAfter: askAfter, hungAfter: hungAfter, command: func() *exec.Cmd {
		// The worker ends when its standard input ends. So the worker ends even if this process is
		// killed.
		cmd := exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // G204: the command starts this program
		cmd.Args[0] = os.Args[0]                                                     // for ps
		// Besides the threads that hash, one thread reads the requests.
		cmd.Env = []string{"GOMAXPROCS=" + strconv.Itoa(slots+1), "GOTRACEBACK=none"}
		// Signals from a terminal must not reach the worker, which ends only when this process ends.
		cmd.SysProcAttr = ownGroup()
		return cmd
	}}
	return w, w.start()
}

// start starts the worker process. The caller holds w.mu, unless w is not shared yet.
func (w *Worker) start() error {
	cmd := w.command()
	in, err := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	err = errors.Join(err, outErr)
	if err == nil && w.idle {
		onThread(lowerThread, func() { err = cmd.Start() })
	} else if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start the hashing worker: %w", err)
	}
	p := &process{client: rpc.NewClient(pipes{out, in}), kill: cmd.Process.Kill, ready: make(chan struct{}), ended: make(chan struct{})}
	w.current = p
	go w.reportFault(p)
	go func() {
		defer close(p.ended)
		err := cmd.Wait()
		_ = p.client.Close() // makes the calls fail that still wait for an answer
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.closed {
			w.log.Error("the hashing worker ended", "error", err)
		}
	}()
	return nil
}

// reportFault waits for the first answer. It logs an error if the worker's bcrypt failed its check.
func (w *Worker) reportFault(p *process) {
	var fault string
	if p.client.Call(service+".Fault", Job{}, &fault) != nil {
		return
	}
	close(p.ready)
	if fault != "" {
		w.log.Error("the bcrypt that yields the CPU gives wrong results; the worker uses x/crypto's, which delays checks more", "error", fault)
	}
}

// onThread calls lower and then f on a new thread, and waits until f returns. The thread then ends, because
// a process may not raise a priority that it lowered.
func onThread(lower, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // stays locked until the thread ends
		lower()
		f()
	}()
	<-done
}

// Close ends the process and waits for its end.
func (w *Worker) Close() error {
	w.mu.Lock()
	w.closed = true
	p := w.current
	w.mu.Unlock()
	err := p.client.Close()
	_ = p.kill() // otherwise a process that hangs would never end
	<-p.ended
	if errors.Is(err, rpc.ErrShutdown) {
		return nil
	}
	return err
}

// Compare implements [Engine].
func (w *Worker) Compare(ctx context.Context, hash, secret []byte) error {
	var equal bool
	if err := w.call(ctx, "Compare", Job{Hash: hash, Secret: secret, Idle: w.idle}, &equal); err != nil {
		return err
	}
	if !equal {
		return bcrypt.ErrMismatchedHashAndPassword
	}
	return nil
}

// Generate implements [Engine].
func (w *Worker) Generate(ctx context.Context, secret []byte, cost int) (hash []byte, err error) {
	err = w.call(ctx, "Generate", Job{Secret: secret, Cost: cost, Idle: w.idle}, &hash)
	return hash, err
}

// Derive implements [Engine].
func (w *Worker) Derive(ctx context.Context, k KDF, secret []byte) (key []byte, err error) {
	err = w.call(ctx, "Derive", Job{KDF: k, Secret: secret}, &key)
	return key, err
}

// call sends a request to the worker process. It returns [ErrUnavailable] if there is no answer.
func (w *Worker) call(ctx context.Context, method string, j Job, answer any) error {
	p, err := w.running()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// Wait even if ctx ends, because the worker computes the hash to its end and uses a core until then.
	call := p.client.Go(service+"."+method, j, answer, make(chan *rpc.Call, 1))
	w.await(p, call)
	if call.Error == nil {
		return nil
	}
	if _, answered := errors.AsType[rpc.ServerError](call.Error); !answered {
		<-p.ended // the next call then starts another process
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: hash password: %w", ErrUnavailable, call.Error)
}

// await waits until the call is done. It kills the process if the process hangs, which ends the call.
func (w *Worker) await(p *process, call *rpc.Call) {
	for {
		select {
		case <-call.Done:
			return
		case <-time.After(w.askAfter):
		}
		limit := startWithin
		select {
		case <-p.ready:
			limit = w.hungAfter
		default:
		}
		hung := time.AfterFunc(limit, func() {
			w.log.Error("the hashing worker hangs and is killed", "waited", limit)
			_ = p.kill()
		})
		_ = p.client.Call(service+".Fault", Job{}, new(string)) // any answer shows that the process runs
		hung.Stop()
	}
}

// running returns a running process. If the last one ended, it starts another one.
func (w *Worker) running() (*process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.current.ended:
	default:
		return w.current, nil
	}
	if w.closed {
		return nil, rpc.ErrShutdown
	}
	if err := w.start(); err != nil {
		return nil, err
	}
	w.log.Info("the hashing worker was started again")
	return w.current, nil
}

// Job is a request to the worker process. It is exported because net/rpc requires that. Secrets are
// pre-hashed, except the passwords of imported users.
type Job struct {
	Hash, Secret []byte
	Cost         int
	KDF          KDF
	Idle         bool // hash only when nothing else wants the CPU, until the hash takes too long
}

const service = "Bcrypt"

// server has the methods that the worker process offers over net/rpc.
type server struct {
	bcrypt implementation
	fault  error // why the server fell back to x/crypto's bcrypt; nil if it did not
}

// newServer checks an implementation of bcrypt. If the check fails, the server uses x/crypto instead.
func newServer(i implementation) server {
	if err := i.check(); err != nil {
		return server{xcrypto, err}
	}
	return server{i, nil}
}

// Fault returns why the server fell back to x/crypto's bcrypt. The reason is empty if it did not.
func (s server) Fault(_ Job, reason *string) error {
	if s.fault != nil {
		*reason = s.fault.Error()
	}
	return nil
}

func (s server) Compare(j Job, equal *bool) error {
	err := s.bcrypt.compare(j.Hash, j.Secret, j.Idle)
	*equal = err == nil
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return nil
	}
	return err
}

func (s server) Generate(j Job, hash *[]byte) (err error) {
	*hash, err = s.bcrypt.generate(j.Secret, j.Cost, j.Idle)
	return err
}

// Derive runs at the priority of the process. It cannot yield as bcrypt does, and on a thread that runs only when
// nothing else wants the CPU it might never end. An imported user needs it once.
func (server) Derive(j Job, key *[]byte) (err error) {
	*key, err = j.KDF.derive(j.Secret)
	return err
}

// RunWorker is all that the worker process does: it hashes until its standard input ends.
func RunWorker() error { return runWorker(yielding) }

func runWorker(i implementation) error {
	// Linux names a process after the file that was executed, which may be /proc/self/exe.
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	// Make standard input blocking. Otherwise the Go runtime would poll it and wake every 20 µs, which
	// takes CPU time from the hashes.
	if err := syscall.SetNonblock(syscall.Stdin, true); err != nil {
		return fmt.Errorf("hashing worker: standard input: %w", err)
	}
	return serve(os.NewFile(uintptr(syscall.Stdin), os.Stdin.Name()), os.Stdout, i)
}

// serve answers hash requests until the input ends.
func serve(in io.ReadCloser, out io.WriteCloser, i implementation) error {
	s := rpc.NewServer()
	if err := s.RegisterName(service, newServer(i)); err != nil {
		return fmt.Errorf("hashing worker: %w", err)
	}
	s.ServeConn(pipes{in, out})
	return nil
}

type pipes struct {
	io.ReadCloser
	out io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.out.Write(b) }

func (p pipes) Close() error {
	err := p.out.Close()
	_ = p.ReadCloser.Close() // fails if the worker has ended, because this end of the pipe is then closed already
	return err
}
