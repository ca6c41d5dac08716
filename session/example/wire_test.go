package main

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// wire is a TCP proxy that counts the messages of its clients. A test can cut its connections.
type wire struct {
	addr     string
	messages atomic.Int64 // the number of reads from clients, without polls of the epochs

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
}

func startWire(t *testing.T, target string) *wire {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{addr: l.Addr().String(), conns: map[net.Conn]bool{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.pass(client, target) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut(true)
		running.Wait()
	})
	return w
}

// cut closes all connections and refuses new connections until cut(false) is called.
func (w *wire) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

func (w *wire) keep(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return false
	}
	for _, c := range conns {
		w.conns[c] = true
	}
	return true
}

func (w *wire) pass(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	if !w.keep(client, server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		defer client.Close()
		_, _ = io.Copy(client, server)
	})
	defer both.Wait()
	defer server.Close()
	for buf := make([]byte, 64<<10); ; {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(buf, []byte("GET /.well-known/sessiond-epochs")) { // which the example asks for every second
			w.messages.Add(1)
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}
