package app

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
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/api"
)

// connServer runs h behind a leanListener and returns a connection to it.
func connServer(t *testing.T, h http.HandlerFunc) net.Conn {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(leanListener{l}) }()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		_ = server.Close()
		<-done
	})
	return conn
}

// A request that waits for something else than a check learns that its client
// has left, whatever the connection was used for before.
func TestLeavingEndsARequest(t *testing.T) {
	ended := make(chan struct{})
	conn := connServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			close(ended)
		}
	})
	answers := bufio.NewReader(conn)
	for range 3 {
		fmt.Fprint(conn, "GET /v1/verify HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	fmt.Fprint(conn, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = conn.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the request goes on without its client")
	}
}

// The read that a check answers with nothing is not tried again and again.
func TestCheckIsReadOnce(t *testing.T) {
	reads := make(chan int, 100)
	release := make(chan struct{})
	server, client := net.Pipe()
	l := &oneConn{conn: countingConn{server, reads}, closed: make(chan struct{})}
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	go fmt.Fprint(client, "GET /v1/verify HTTP/1.1\r\nHost: x\r\n\r\n")
	for n := range reads {
		if n == 1 {
			break // net/http listens for the client's leaving
		}
	}
	// It has been told that there is nothing, and the handler is still at work.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	select {
	case n := <-reads:
		t.Errorf("read again, %d bytes", n)
	case <-ctx.Done():
	}
	close(release)
	if _, err := http.ReadResponse(bufio.NewReader(client), nil); err != nil { //nolint:bodyclose // it has none
		t.Error(err)
	}
	_ = client.Close()
	_ = s.Close()
	<-done
}

// countingConn answers as a leanConn does, and tells of every read.
type countingConn struct {
	net.Conn
	reads chan int
}

func (c countingConn) Read(p []byte) (int, error) {
	c.reads <- len(p)
	if len(p) == 1 {
		return 0, nil
	}
	return c.Conn.Read(p)
}

type oneConn struct {
	conn   net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// Fields that are set stand in the next answer, and in no other.
func TestFieldsOfAnAnswer(t *testing.T) {
	lean, peer := leanPair(t)
	w := lean.(api.FieldWriter)
	const head, rest = "HTTP/1.1 200 OK\r\n", "Content-Length: 0\r\n\r\n"
	for _, fields := range []string{"", "A: 1\r\n", "", "B: a longer one\r\nC: 3\r\n", "A: 1\r\n"} {
		if fields != "" {
			w.SetFields(append(w.FieldBuffer(), fields...))
		}
		if n, err := lean.Write([]byte(head + rest)); n != len(head+rest) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		got := make([]byte, len(head+fields+rest))
		if _, err := io.ReadFull(peer, got); err != nil || string(got) != head+fields+rest {
			t.Errorf("with %q: %q, %v", fields, got, err)
		}
	}
	w.SetFields(append(w.FieldBuffer(), "A: 1\r\n"...))
	for _, p := range []string{"no line", "no answer\r\n"} {
		if n, err := lean.Write([]byte(p)); n != 0 || err == nil {
			t.Errorf("%q: wrote %d, %v", p, n, err)
		}
	}
	_ = lean.Close()
	if got, err := io.ReadAll(peer); err != nil || len(got) > 0 {
		t.Errorf("after all: %q, %v", got, err)
	}
}

// Requests that come in one piece, checks and others, are all answered, in order.
func TestPipelinedRequests(t *testing.T) {
	conn := connServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.URL.Path, string(body))
	})
	paths := []string{"/v1/verify", "/a", "/v1/verify/b", "/c"}
	var all strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&all, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n!", p)
	}
	request := strings.ReplaceAll(all.String(), "POST /v1", "GET /v1")
	for _, piece := range []int{1, 7, 60, len(request)} {
		go func() {
			for rest := request; rest != ""; {
				n := min(piece, len(rest))
				_, _ = io.WriteString(conn, rest[:n])
				rest = rest[n:]
			}
		}()
		answers := bufio.NewReader(conn)
		for _, p := range paths {
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != p+"!" {
				t.Errorf("in pieces of %d: answered %q, %v, want %q", piece, body, err, p)
			}
			_ = resp.Body.Close()
		}
	}
}

// A request may end one byte past what the buffer that it is read through holds,
// and then that byte is asked for alone.
func TestByteThatIsLast(t *testing.T) {
	lean, peer := leanPair(t)
	r := bufio.NewReaderSize(lean, 4096)
	fmt.Fprintf(peer, "%-4095s", checkRequest)
	if _, err := r.Peek(4095); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(peer, "!")
	if got, err := r.Peek(4096); err != nil || got[4095] != '!' {
		t.Errorf("%q, %v", got[len(got)-1:], err)
	}
}

// leanPair is both ends of a connection, the first as a leanListener accepts it.
func leanPair(t *testing.T) (lean, peer net.Conn) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if peer, err = new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if lean, err = (leanListener{l}).Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close(); _ = lean.Close() })
	return lean, peer
}

// A deadline that is noted is kept: not a moment early, and not late.
func TestDeadlines(t *testing.T) {
	const (
		near = 50 * time.Millisecond
		far  = 200 * time.Millisecond
		none = 0
	)
	for name, c := range map[string]struct {
		set  []time.Duration // one after another
		want time.Duration
	}{
		"near":             {[]time.Duration{near}, near},
		"put off":          {[]time.Duration{near, far}, far},
		"put off twice":    {[]time.Duration{near, near * 2, far}, far},
		"brought forward":  {[]time.Duration{far, near}, near},
		"there and back":   {[]time.Duration{near, far, near}, near},
		"taken away":       {[]time.Duration{near, none, far}, far},
		"past":             {[]time.Duration{far, -time.Second}, 0},
		"past and put off": {[]time.Duration{-time.Second, far}, far},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lean, _ := leanPair(t)
			for _, op := range []struct {
				name string
				set  func(time.Time) error
				do   func([]byte) (int, error)
			}{
				{"read", lean.SetReadDeadline, lean.Read},
				{"write", lean.SetWriteDeadline, lean.Write},
				{"either", lean.SetDeadline, lean.Read},
			} {
				start := time.Now()
				for _, d := range c.set {
					at := start.Add(d)
					if d == none {
						at = time.Time{}
					}
					if err := op.set(at); err != nil {
						t.Fatal(err)
					}
				}
				var err error
				for buf := make([]byte, 1<<20); err == nil; { // a write until nothing more fits
					_, err = op.do(buf)
				}
				took := time.Since(start)
				if !errors.Is(err, os.ErrDeadlineExceeded) || took < c.want || took > c.want+time.Second {
					t.Errorf("%s: %v after %v, want a time-out after %v", op.name, err, took, c.want)
				}
				_ = op.set(time.Time{})
			}
		})
	}
}

// A deadline that is put off while a read waits does not end it, and one that is
// brought forward does.
func TestDeadlineWhileReading(t *testing.T) {
	lean, peer := leanPair(t)
	_ = lean.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_ = lean.SetReadDeadline(time.Now().Add(time.Minute))
	read := make(chan string)
	go func() {
		buf := make([]byte, 10)
		for {
			n, err := lean.Read(buf)
			read <- fmt.Sprint(string(buf[:n]), err)
			if err != nil {
				return
			}
		}
	}()
	select {
	case got := <-read:
		t.Fatalf("read %s", got)
	case <-time.After(150 * time.Millisecond): // the first deadline is over
	}
	fmt.Fprint(peer, "late")
	if got := <-read; got != "late<nil>" {
		t.Errorf("read %s", got)
	}
	_ = lean.SetReadDeadline(time.Unix(1, 0)) // as net/http ends a read that waits
	if got := <-read; !strings.Contains(got, "timeout") {
		t.Errorf("read %s", got)
	}
}

// A write that an early time-out interrupts goes on where it was.
func TestInterruptedWrite(t *testing.T) {
	lean, peer := leanPair(t)
	want := make([]byte, 32<<20)
	for i := range want {
		want[i] = byte(i ^ i>>8 ^ i>>16)
	}
	_ = lean.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	_ = lean.SetWriteDeadline(time.Now().Add(time.Minute))
	done := make(chan error)
	go func() {
		n, err := lean.Write(want)
		if err == nil && n != len(want) {
			err = fmt.Errorf("wrote %d", n)
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("nobody read, and yet it was written: %v", err)
	case <-time.After(200 * time.Millisecond): // the first deadline is over
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what arrived is not what was written: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Who sends a header too slowly is cut off, after good requests as well.
func TestSlowHeader(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: 200 * time.Millisecond,
		ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(leanListener{l}) }()
	defer func() { _ = s.Close(); <-done }()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for i := range 5 {
		fmt.Fprint(conn, "GET /v1/verify HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		_ = resp.Body.Close()
		<-time.After(100 * time.Millisecond) // an idle connection is not a slow header
	}
	start := time.Now()
	fmt.Fprint(conn, "GET /v1/verify HTTP/1.1\r\nHost:")
	_ = conn.SetReadDeadline(start.Add(10 * time.Second))
	_, err = io.Copy(io.Discard, answers)
	if took := time.Since(start); err != nil || took < 150*time.Millisecond || took > 5*time.Second {
		t.Errorf("cut off after %v, %v", took, err)
	}
}
