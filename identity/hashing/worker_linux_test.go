package hashing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"
)

// With one of these arguments, the test binary runs as a hashing worker, with the real or a broken bcrypt.
const (
	workerVerb       = "hash-worker"
	brokenWorkerVerb = "broken-hash-worker"
)

func TestMain(m *testing.M) {
	if len(os.Args) != 2 || !strings.HasSuffix(os.Args[1], workerVerb) {
		goleak.VerifyTestMain(m)
		return
	}
	run := RunWorker
	if os.Args[1] == brokenWorkerVerb {
		run = func() error { return runWorker(broken) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var secret = []byte("correct horse battery staple")

func start(t *testing.T) *Worker {
	t.Helper()
	return startVerb(t, workerVerb, slog.New(slog.DiscardHandler))
}

func startVerb(t *testing.T, verb string, log *slog.Logger) *Worker {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w, err := StartWorker([]string{self, verb}, 2, true, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestWorker_HashesAndComparesSecrets(t *testing.T) {
	w := start(t)
	hash, err := w.Generate(t.Context(), secret, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := bcrypt.CompareHashAndPassword(hash, secret); err != nil {
		t.Errorf("x/crypto refuses the new hash: %v", err)
	}
	if err := w.Compare(t.Context(), hash, secret); err != nil {
		t.Errorf("the right secret: %v", err)
	}
	if err := w.Compare(t.Context(), hash, []byte("another")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Errorf("a wrong secret: %v", err)
	}
	k := KDF{Name: "scrypt", Costs: []uint32{4, 8, 1}, Salt: []byte("saltsalt"), Size: 32}
	want, err := k.derive(secret)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := w.Derive(t.Context(), k, secret); err != nil || !bytes.Equal(key, want) {
		t.Errorf("the worker derives %x, %v; this process derives %x", key, err, want)
	}
	if _, err := w.Derive(t.Context(), KDF{Name: "scrypt", Costs: []uint32{20, 8, 1}, Salt: k.Salt, Size: 32}, secret); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a key beyond the bounds: %v", err)
	}
	if err := w.Compare(t.Context(), []byte("no hash"), secret); !errors.Is(err, ErrUnavailable) {
		t.Errorf("comparing with a text that is not a hash: %v", err)
	}
	if _, err := w.Generate(t.Context(), secret, bcrypt.MaxCost+1); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a cost that bcrypt does not have: %v", err)
	}
}

func TestWorker_UsesXCryptoIfYieldingBcryptIsBroken(t *testing.T) {
	var log logged
	w := startVerb(t, brokenWorkerVerb, slog.New(slog.NewTextHandler(&log, nil)))
	hash, err := w.Generate(t.Context(), secret, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Compare(t.Context(), hash, []byte("another")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Errorf("a wrong secret: %v", err)
	}
	for !strings.Contains(log.String(), "known answer") { // the Worker logs the fault in the background
		runtime.Gosched()
	}
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "x/crypto") {
		t.Errorf("logged %s", text)
	}
}

// logged is a log that several goroutines may write.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Inside the worker, hashes run only when nothing else wants the CPU, and other threads have a low
// priority. The process that started the worker keeps its priority.
func TestWorker_RunsAtLowPriority(t *testing.T) {
	w := start(t)
	outcome := make(chan error, 1)
	go func() {
		_, err := w.Generate(context.Background(), secret, 10)
		outcome <- err
	}()
	process := child(t)
	if nice := priority(t, process).Nice; nice != 15 {
		t.Errorf("the worker has niceness %d, want 15", nice)
	}
	idle := func() (all []int) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", process))
		if err != nil || len(threads) == 0 {
			t.Fatalf("threads of %d: %v, %v", process, threads, err)
		}
		for _, path := range threads {
			thread, err := strconv.Atoi(filepath.Base(path))
			if err != nil {
				t.Fatal(err)
			}
			attr, err := unix.SchedGetAttr(thread, 0) // an error means that the thread has ended
			if err == nil && attr.Policy == unix.SCHED_IDLE {
				all = append(all, thread)
			}
		}
		return all
	}
	for len(idle()) == 0 {
		select {
		case err := <-outcome:
			t.Fatalf("hashed without a SCHED_IDLE thread: %v", err)
		default:
		}
	}
	if err := <-outcome; err != nil {
		t.Error(err)
	}
	// A thread that hashed at idle priority must end. Go cannot end the first thread of a process, but
	// does not use it any more.
	for left := idle(); len(left) > 1 || len(left) == 1 && left[0] != process; left = idle() {
		runtime.Gosched()
	}
	if own := priority(t, 0); own.Policy != unix.SCHED_NORMAL || own.Nice == 15 {
		t.Errorf("this process has scheduling policy %d and niceness %d", own.Policy, own.Nice)
	}
}

func priority(t *testing.T, pid int) *unix.SchedAttr {
	t.Helper()
	attr, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return attr
}

func TestWorker_RestartsAfterItWasKilled(t *testing.T) {
	w := start(t)
	first := child(t)
	waiting := make(chan error)
	go func() {
		_, err := w.Generate(context.Background(), secret, 20) // this hash would take half a minute
		waiting <- err
	}()
	hash, err := w.Generate(t.Context(), secret, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, ErrUnavailable) {
		t.Errorf("the call that waited: %v", err)
	}
	for err = errors.New("not asked yet"); err != nil; {
		// Calls return ErrUnavailable until the Worker notices that its process has ended.
		if err = w.Compare(t.Context(), hash, secret); err != nil && !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if child(t) == first {
		t.Error("the killed process still answers")
	}
}

// A stopped process is one that hangs: it neither answers nor ends.
func TestWorker_ReplacesAProcessThatHangs(t *testing.T) {
	w := start(t)
	w.askAfter, w.hungAfter = time.Millisecond, 2*time.Second
	first := child(t)
	<-w.current.ready
	stop(t, first)
	if _, err := w.Generate(t.Context(), secret, bcrypt.MinCost); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the call that the process did not answer: %v", err)
	}
	if _, err := w.Generate(t.Context(), secret, bcrypt.MinCost); err != nil {
		t.Errorf("the next call: %v", err)
	}
	if child(t) == first {
		t.Error("the process that hung was not replaced")
	}
}

// On a busy machine, an honest hash may take long. A process that still answers is not killed for it.
func TestWorker_WaitsForASlowHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := yielding
		slow.generate = func([]byte, int, bool) ([]byte, error) {
			time.Sleep(time.Hour)
			return []byte("made"), nil
		}
		in, out := net.Pipe()
		s := rpc.NewServer()
		if err := s.RegisterName(service, server{bcrypt: slow}); err != nil {
			t.Fatal(err)
		}
		go s.ServeConn(out)
		w := &Worker{log: slog.New(slog.DiscardHandler), askAfter: askAfter, hungAfter: hungAfter}
		w.current = &process{client: rpc.NewClient(in), ready: make(chan struct{}), ended: make(chan struct{})}
		w.current.kill = func() error { close(w.current.ended); return w.current.client.Close() }
		go w.reportFault(w.current)
		if hash, err := w.Generate(t.Context(), secret, bcrypt.MinCost); err != nil || string(hash) != "made" {
			t.Errorf("slow hash: %q, %v", hash, err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

func stop(t *testing.T, process int) {
	t.Helper()
	if err := syscall.Kill(process, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

func TestWorker_CloseEndsAProcessThatHangs(t *testing.T) {
	w := start(t)
	stop(t, child(t))
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestWorker_CloseEndsTheProcess(t *testing.T) {
	w := start(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Compare(t.Context(), nil, secret); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
	if pids := children(t); len(pids) > 0 {
		t.Errorf("left behind: %v", pids)
	}
}

func TestWorker_EndsWhenStandardInputEnds(t *testing.T) {
	in, parent := io.Pipe()
	served := make(chan error)
	go func() { served <- serve(in, discard{}, yielding) }()
	if err := parent.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

func TestStartWorker_FailsWithoutAProgram(t *testing.T) {
	if _, err := StartWorker([]string{"/nowhere"}, 1, true, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("started a program that does not exist")
	}
}

func child(t *testing.T) int {
	t.Helper()
	pids := children(t)
	if len(pids) != 1 {
		t.Fatalf("%d children, want 1", len(pids))
	}
	return pids[0]
}

func children(t *testing.T) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		t.Skip("SKIPPED: the kernel does not list child processes")
	}
	for _, list := range lists {
		data, _ := os.ReadFile(list) // ReadFile fails if the thread has ended; its list is then empty
		for word := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}
