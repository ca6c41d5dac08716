package hashing_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"

	"github.com/sessiond/sessiond/identity/hashing"
)

// verb makes this test binary the process that hashes.
const verb = "hash-worker"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == verb {
		if err := hashing.RunWorker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

var secret = []byte("correct horse battery staple")

func start(t *testing.T) *hashing.Worker {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w, err := hashing.StartWorker([]string{self, verb}, 2, true, slog.New(slog.DiscardHandler))
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

func TestHashes(t *testing.T) {
	w := start(t)
	hash, err := w.Generate(t.Context(), secret, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := bcrypt.CompareHashAndPassword(hash, secret); err != nil {
		t.Errorf("what it made is no hash of the secret: %v", err)
	}
	if err := w.Compare(t.Context(), hash, secret); err != nil {
		t.Errorf("the right secret: %v", err)
	}
	if err := w.Compare(t.Context(), hash, []byte("another")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Errorf("a wrong secret: %v", err)
	}
	if err := w.Compare(t.Context(), []byte("no hash"), secret); !errors.Is(err, hashing.ErrUnavailable) {
		t.Errorf("what is no hash: %v", err)
	}
	if _, err := w.Generate(t.Context(), secret, bcrypt.MaxCost+1); !errors.Is(err, hashing.ErrUnavailable) {
		t.Errorf("a cost that there is not: %v", err)
	}
}

// TestGivesWay: hashes run when nothing else wants to, the rest of the process later
// than others, and we as before.
func TestGivesWay(t *testing.T) {
	w := start(t)
	outcome := make(chan error, 1)
	go func() {
		_, err := w.Generate(context.Background(), secret, 10)
		outcome <- err
	}()
	process := child(t)
	if nice := priority(t, process).Nice; nice != 15 {
		t.Errorf("the process has the niceness %d", nice)
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
			attr, err := unix.SchedGetAttr(thread, 0) // one that has ended has none
			if err == nil && attr.Policy == unix.SCHED_IDLE {
				all = append(all, thread)
			}
		}
		return all
	}
	for len(idle()) == 0 {
		select {
		case err := <-outcome:
			t.Fatalf("hashed, on no thread of the class SCHED_IDLE: %v", err)
		default:
		}
	}
	if err := <-outcome; err != nil {
		t.Error(err)
	}
	// The thread ends with its hash. Go never uses the first one of a process again, but
	// cannot end it.
	for left := idle(); len(left) > 1 || len(left) == 1 && left[0] != process; left = idle() {
		runtime.Gosched()
	}
	if own := priority(t, 0); own.Policy != unix.SCHED_NORMAL || own.Nice == 15 {
		t.Errorf("and we ourselves: scheduling policy %d, niceness %d", own.Policy, own.Nice)
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

// TestKilled: who waits for an answer is told that nothing was decided, and the
// next one finds a new process.
func TestKilled(t *testing.T) {
	w := start(t)
	first := child(t)
	waiting := make(chan error)
	go func() {
		_, err := w.Generate(context.Background(), secret, 20) // half a minute, if it were let
		waiting <- err
	}()
	hash, err := w.Generate(t.Context(), secret, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, hashing.ErrUnavailable) {
		t.Errorf("who waited: %v", err)
	}
	for err = errors.New("not asked yet"); err != nil; {
		// Those that ask before the end is noticed are told the same.
		if err = w.Compare(t.Context(), hash, secret); err != nil && !errors.Is(err, hashing.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if child(t) == first {
		t.Error("the process that was killed still answers")
	}
}

func TestClosed(t *testing.T) {
	w := start(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Compare(t.Context(), nil, secret); !errors.Is(err, hashing.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
	if pids := children(t); len(pids) > 0 {
		t.Errorf("left behind: %v", pids)
	}
}

// TestEndsWithItsParent: a process whose standard input has ended does, too.
func TestEndsWithItsParent(t *testing.T) {
	in, parent := io.Pipe()
	served := make(chan error)
	go func() { served <- hashing.ServeWorker(in, discard{}) }()
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

func TestNoSuchProgram(t *testing.T) {
	if _, err := hashing.StartWorker([]string{"/nowhere"}, 1, true, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("started")
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
		t.Skip("the kernel does not tell of children")
	}
	for _, list := range lists {
		data, _ := os.ReadFile(list) // a thread that has ended has none
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
