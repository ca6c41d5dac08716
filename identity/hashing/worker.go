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

// Worker is a process that hashes. It implements [Engine].
type Worker struct {
	command func() *exec.Cmd
	idle    bool
	log     *slog.Logger

	mu     sync.Mutex
	client *rpc.Client
	ended  chan struct{} // closed when the present process has
	closed bool
}

// StartWorker starts the process: command, which has to call [ServeWorker], with nothing
// on its standard streams but for us. slots is how many hash at once; idle, that
// they run only when nothing else wants to, while that is not too seldom.
func StartWorker(command []string, slots int, idle bool, log *slog.Logger) (*Worker, error) {
	w := &Worker{log: log, idle: idle, command: func() *exec.Cmd {
		// It ends when its standard input does, and so with us, however that comes.
		cmd := exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // G204: this program
		// One more than hash, for who reads the questions.
		cmd.Env = []string{"GOMAXPROCS=" + strconv.Itoa(slots+1), "GOTRACEBACK=none"}
		// Signals from a terminal are for us: it ends when we do.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		return cmd
	}}
	return w, w.start()
}

// start starts a process. w.mu is held, or nobody knows w yet.
func (w *Worker) start() error {
	cmd := w.command()
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start the process that hashes: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start the process that hashes: %w", err)
	}
	if w.idle {
		onThread(lowerThread, func() { err = cmd.Start() })
	} else {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start the process that hashes: %w", err)
	}
	client, ended := rpc.NewClient(pipes{out, in}), make(chan struct{})
	w.client, w.ended = client, ended
	go func() {
		defer close(ended)
		err := cmd.Wait()
		_ = client.Close() // whoever still waits for an answer is told
		if !w.isClosed() {
			w.log.Error("the process that hashes passwords ended", "error", err)
		}
	}()
	return nil
}

// onThread runs f on a thread whose priority was lowered, and waits for it. The thread
// ends with its goroutine, since nothing may raise it again.
func onThread(lower, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good
		lower()
		f()
	}()
	<-done
}

func (w *Worker) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// Close ends the process, and waits until it has.
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

// call asks the process. What it could not answer is [ErrUnavailable].
func (w *Worker) call(ctx context.Context, method string, j Job, answer any) error {
	client, err := w.running()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// Always waited for: the slot is in use until the hash is made.
	call := <-client.Go(service+"."+method, j, answer, make(chan *rpc.Call, 1)).Done
	if call.Error == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: hash password: %w", ErrUnavailable, call.Error)
}

// running returns the client of a process that runs, for which it starts
// another one if need be.
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
	w.log.Info("the process that hashes passwords was started again")
	return w.client, nil
}

// Job is what is asked of the process, in words of net/rpc. Secrets are pre-hashed, but for the passwords of
// users who were imported.
type Job struct {
	Hash, Secret []byte
	Cost         int
	Idle         bool // it begins on a thread that runs only when nothing else wants to
}

const service = "Bcrypt"

// server is what net/rpc makes methods of.
type server struct{}

func (server) Compare(j Job, equal *bool) error {
	err := compare(j.Hash, j.Secret, j.Idle)
	*equal = err == nil
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return nil
	}
	return err
}

func (server) Generate(j Job, hash *[]byte) (err error) {
	*hash, err = generate(j.Secret, j.Cost, j.Idle)
	return err
}

// ServeWorker is the process's whole work: it hashes until in ends.
func ServeWorker(in io.ReadCloser, out io.WriteCloser) error {
	s := rpc.NewServer()
	if err := s.RegisterName(service, server{}); err != nil {
		return fmt.Errorf("identity/hashing: %w", err)
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
	_ = p.ReadCloser.Close() // the process may end at that, and its end closes this too
	return err
}

// RunWorker is for a program's main: it serves on the standard streams.
func RunWorker() error {
	// Polled, since a thread that waits in a read has the Go runtime look after it every
	// 20 µs, at the cost of those who hash.
	if err := syscall.SetNonblock(syscall.Stdin, true); err != nil {
		return fmt.Errorf("identity/hashing: standard input: %w", err)
	}
	return ServeWorker(os.NewFile(uintptr(syscall.Stdin), os.Stdin.Name()), os.Stdout)
}
