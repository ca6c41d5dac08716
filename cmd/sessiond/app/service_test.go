package app

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessiond/sessiond/api"
)

// pipes is a net.Listener for connections in memory. Unlike the deadlines of TCP connections, their
// deadlines use the fake clock of the package synctest.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// A client that never sends the rest of its request body must not make the shutdown fail.
func TestServe_ShutsDownDespiteIncompleteRequestBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) })
		ctx, stop := context.WithCancel(t.Context())
		listener, done := newPipes(), make(chan error)
		go func() {
			done <- (&Service{Handler: handler}).Serve(ctx, Listeners{Public: listener}, 0, slog.New(slog.DiscardHandler))
		}()
		conn := listener.dial()
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A client with a kept-alive connection must learn that the service stops, because Shutdown closes
// idle connections without regard for a request that is on its way.
func TestServe_AsksClientsToCloseTheirConnectionsDuringShutdownDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		listener, done := newPipes(), make(chan error)
		go func() {
			handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
			done <- (&Service{Handler: handler}).Serve(ctx, Listeners{Public: listener}, time.Minute, slog.New(slog.DiscardHandler))
		}()
		conn := listener.dial()
		reader := bufio.NewReader(conn)
		for _, stopping := range []bool{false, true} {
			if stopping {
				stop()
				synctest.Wait()
			}
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.Close != stopping {
				t.Errorf("stopping %t: the response has Connection: close: %t", stopping, response.Close)
			}
		}
		if _, err := reader.ReadByte(); err != io.EOF {
			t.Errorf("after Connection: close, the connection is open: %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Many clients send requests all the time while replicas are replaced one after another, behind a load
// balancer that gives each new connection to the newest replica. No request may fail.
func TestServe_RollingStopCutsNoRequest(t *testing.T) {
	for name, c := range map[string]struct {
		at   func(net.Listener) Listeners
		body string
	}{
		// The transport repeats a failed GET by itself, but not a POST, and none with such a body.
		"main port":  {func(l net.Listener) Listeners { return Listeners{Public: l} }, "x"},
		"check port": {func(l net.Listener) Listeners { return Listeners{Check: l} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stopInTurn(t, c.at, c.body)
		})
	}
}

func stopInTurn(t *testing.T, at func(net.Listener) Listeners, text string) {
	t.Helper()
	const stops, clients, delay = 2, 32, 2 * time.Second // a client is certain to send a request within the delay
	log := slog.New(slog.DiscardHandler)
	service := &Service{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), api: &api.API{Log: log}}
	var newest atomic.Pointer[string]
	startReplica := func() (stop func()) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- service.Serve(ctx, at(listener), delay, log) }()
		addr := listener.Addr().String()
		newest.Store(&addr)
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	stop := startReplica()
	var running sync.WaitGroup
	var sent atomic.Int64
	end := make(chan struct{})
	for range clients {
		running.Go(func() {
			transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", *newest.Load())
			}}
			defer transport.CloseIdleConnections()
			for {
				select {
				case <-end:
					return
				default:
				}
				var body io.Reader
				if text != "" {
					body = io.MultiReader(strings.NewReader(text))
				}
				request, err := http.NewRequest("POST", "http://service/livez", body)
				if err != nil {
					t.Error(err)
					return
				}
				response, err := transport.RoundTrip(request)
				sent.Add(1)
				if err != nil {
					t.Error(err)
					continue
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		})
	}
	for range stops {
		old := stop
		stop = startReplica()
		old()
	}
	close(end)
	running.Wait()
	stop()
	t.Logf("%d clients sent %d requests while %d replicas stopped", clients, sent.Load(), stops)
}
