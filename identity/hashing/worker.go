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
	"runtime"
	"strconv"
	"sync"
	"syscall"

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

	mu     sync.Mutex
	client *rpc.Client
	ended  chan struct{} // closed when the current process has ended
	closed bool
}

// StartWorker starts the worker process. The command must call [RunWorker], and nothing else may use
// its standard streams. The parameter slots is how many hashes run at once. If idle is set, a hash runs
// only when nothing else wants the CPU, until it has taken far longer than usual (see farBehind).
func StartWorker(command []string, slots int, idle bool, log *slog.Logger) (*Worker, error) {
	w := &Worker{log: log, idle: idle, command: func() *exec.Cmd {
		// The worker ends when its standard input ends. So the worker ends even if this process is
		// killed.
		cmd := exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // G204: the command starts this program
		// Besides the threads that hash, one thread reads the requests.
		cmd.Env = []string{"GOMAXPROCS=" + strconv.Itoa(slots+1), "GOTRACEBACK=none"}
		// Signals from a terminal must not reach the worker, which ends only when this process ends.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
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
	client, ended := rpc.NewClient(pipes{out, in}), make(chan struct{})
	w.client, w.ended = client, ended
	go w.reportFault(client)
	go func() {
		defer close(ended)
		err := cmd.Wait()
		_ = client.Close() // makes the calls fail that still wait for an answer
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.closed {
			w.log.Error("the hashing worker ended", "error", err)
		}
	}()
	return nil
}

// reportFault logs an error if the worker's bcrypt failed its check.
func (w *Worker) reportFault(client *rpc.Client) {
	var fault string
	if err := client.Call(service+".Fault", Job{}, &fault); err == nil && fault != "" {
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
	client, ended := w.client, w.ended
	w.mu.Unlock()
	err := client.Close()
	<-ended
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

// call sends a request to the worker process. It returns [ErrUnavailable] if there is no answer.
func (w *Worker) call(ctx context.Context, method string, j Job, answer any) error {
	client, err := w.running()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// Wait even if ctx ends, because the worker computes the hash to its end and uses a core until then.
	call := <-client.Go(service+"."+method, j, answer, make(chan *rpc.Call, 1)).Done
	if call.Error == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: hash password: %w", ErrUnavailable, call.Error)
}

// running returns the client of a running process. If the last process ended, it starts another one.
func (w *Worker) running() (*rpc.Client, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.ended:
	default:
		return w.client, nil
	}
	if w.closed {
		return nil, rpc.ErrShutdown
	}
	if err := w.start(); err != nil {
		return nil, err
	}
	w.log.Info("the hashing worker was started again")
	return w.client, nil
}

// Job is a request to the worker process. It is exported because net/rpc requires that. Secrets are
// pre-hashed, except the passwords of imported users.
type Job struct {
	Hash, Secret []byte
	Cost         int
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

// RunWorker is all that the worker process does: it hashes until its standard input ends.
func RunWorker() error { return runWorker(yielding) }

func runWorker(i implementation) error {
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
