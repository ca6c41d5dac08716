package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// connServer runs h behind a checkListener and returns a connection to it.
func connServer(t *testing.T, h http.HandlerFunc) net.Conn {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(checkListener{l}) }()
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

// countingConn answers as a checkConn does, and tells of every read.
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
