package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

func TestDrive_CountsEveryOutcome(t *testing.T) {
	from := &Supply{Requests: make([]Request, 100), Once: true}
	var asked atomic.Int64
	w := NewWork()
	err := Drive(t.Context(), 4, time.Minute, from, func(context.Context, int, *Request) error {
		switch n := asked.Add(1); n % 10 {
		case 1:
			return fmt.Errorf("%w: number %d", ErrWrong, n)
		case 2:
			return ErrVanished
		case 3:
			return ErrDeclined
		default:
			return nil
		}
	}, w)
	if err != nil {
		t.Fatal(err)
	}
	if asked.Load() != 100 || w.Latencies.TotalCount() != 90 || w.Wrong != 10 || w.Vanished != 10 || w.Declined != 10 || w.Complaint == "" {
		t.Errorf("asked %d times: %d answers, %+v", asked.Load(), w.Latencies.TotalCount(), w)
	}
}

func TestDrive_StopsWhenDurationIsOver(t *testing.T) {
	from := &Supply{Requests: make([]Request, 3)} // Drive repeats these three requests until its time is over
	w, begin := NewWork(), time.Now()
	err := Drive(t.Context(), 2, 20*time.Millisecond, from, func(context.Context, int, *Request) error { return nil }, w)
	if err != nil || w.Latencies.TotalCount() <= 3 || w.Took < 20*time.Millisecond || time.Since(begin) > 10*time.Second {
		t.Errorf("%d answers in %v: %v", w.Latencies.TotalCount(), w.Took, err)
	}
}

func TestDrive_ErrorOfOneCallerStopsAllCallers(t *testing.T) {
	broken := errors.New("broken")
	err := Drive(t.Context(), 8, time.Hour, &Supply{Requests: make([]Request, 1)}, func(_ context.Context, caller int, _ *Request) error {
		if caller == 3 {
			return broken
		}
		return nil
	}, NewWork())
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want the error of the failed caller", err)
	}
}

func TestDrive_CanceledContextStopsAllCallers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := Drive(ctx, 2, time.Hour, &Supply{Requests: make([]Request, 1)}, func(context.Context, int, *Request) error {
		cancel()
		return nil
	}, NewWork())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

// While the first check is slow, three more checks become due. Their latency must include the time
// that they wait for the first one.
func TestDrive_LatencyIncludesWaitForASlowCheck(t *testing.T) {
	const slow = 200 * time.Millisecond
	from := &Supply{Requests: make([]Request, 4), Once: true, Interval: slow / 4}
	first, w := true, NewWork()
	err := Drive(t.Context(), 1, time.Minute, from, func(context.Context, int, *Request) error {
		if first {
			first = false
			time.Sleep(slow)
		}
		return nil
	}, w)
	// The checks are due at 0, 50, 100 and 150 ms, and all are answered at 200 ms or later.
	if least := time.Duration(w.Latencies.Min()); err != nil || w.Latencies.TotalCount() != 4 || least < slow/4-time.Millisecond {
		t.Errorf("%d answers, the fastest in %v: %v", w.Latencies.TotalCount(), least, err)
	}
}

// speak starts a server that sends these pieces to the first client and disconnects. It returns
// that client.
func speak(t *testing.T, pieces ...string) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for _, piece := range pieces {
			if _, err := io.WriteString(conn, piece); err != nil {
				return
			}
		}
	}()
	cs, err := Dial(t.Context(), 1, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cs.Close(); listener.Close() })
	return cs[0]
}

func TestCheck_ReportsWrongAnswers(t *testing.T) {
	const named = "HTTP/1.1 200 OK\r\nX-Auth-Session: s-1\r\nContent-Length: 0\r\n\r\n"
	const unnamed = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	const refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nnope"
	live, other, revoked := Request{Session: "s-1"}, Request{Session: "s-2"}, Request{Session: "s-1", Revoked: true}
	for _, c := range []struct {
		name, answer string
		r            Request
		named, right bool
	}{
		{"accepts a 200 with the right session id", named, live, true, true},
		{"reports a 200 with another session's id", named, other, true, false},
		{"reports a 200 without a session id", unnamed, live, true, false},
		{"accepts a 200 without a session id from a baseline", unnamed, live, false, true},
		{"reports a 401 for a live session", refusal, live, true, false},
		{"accepts a 401 for a revoked session", refusal, revoked, true, true},
		{"reports a 200 for a revoked session", named, revoked, true, false},
		{"reports a 503 for a live session", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", live, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := speak(t, c.answer)
			if err := client.Check(&c.r, c.named); (err == nil) != c.right || err != nil && !errors.Is(err, ErrWrong) {
				t.Errorf("error %v, right: %t", err, c.right)
			}
		})
	}
}

func TestCheck_BrokenConnectionDoesNotCountAsWrongAnswer(t *testing.T) {
	if err := speak(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").Check(&Request{}, false); err == nil || errors.Is(err, ErrWrong) {
		t.Errorf("error %v, want a connection error without ErrWrong", err)
	}
}
