package httpsuite

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// proxy forwards TCP connections to a server. A test can cut the connections, or hold back messages
// that clients send.
type proxy struct {
	addr, target string

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
	hold  int           // how many more messages of clients the proxy forwards; -1 means all
	held  chan struct{} // closed when the proxy holds a message back
	sees  func([]byte)  // receives each message of a client, unless it is nil
	wg    sync.WaitGroup
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), target: target, conns: map[net.Conn]struct{}{}, hold: -1}
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

// serve forwards one client connection to the server, in both directions.
// proxiedPostgres makes a database, and returns its URL through a proxy.
func proxiedPostgres(t *testing.T) (databaseURL string, p *proxy) {
	t.Helper()
	u, err := url.Parse(sqlstoretest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	p = startProxy(t, u.Host)
	u.Host = p.addr
	return u.String(), p
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.add(client, server) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.forward(server, client, p.mayForward) })
	wg.Go(func() { p.forward(client, server, func([]byte) bool { return true }) })
	wg.Wait()
}

// forward copies messages from one connection to the other while allowed returns true.
func (p *proxy) forward(to, from net.Conn, allowed func([]byte) bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if !allowed(buf[:n]) {
			// Read and discard everything. Both ends then wait until the connection is cut.
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// mayForward reports whether the proxy forwards the next message of a client.
func (p *proxy) mayForward(message []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sees != nil {
		p.sees(message)
	}
	switch p.hold {
	case -1:
		return true
	case 0:
		select {
		case <-p.held:
		default:
			close(p.held)
		}
		return false
	}
	p.hold--
	return true
}

// holdAfter lets the proxy forward n more messages of clients and then hold back all messages until
// mend is called. The returned channel is closed when the proxy holds back the first message.
func (p *proxy) holdAfter(n int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold, p.held = n, make(chan struct{})
	return p.held
}

// add registers connections that a later call of cut must close. It returns false if the proxy
// accepts no connections at the moment, because it has been cut.
func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return !p.down
}

// watch makes the proxy call f with each message of a client.
func (p *proxy) watch(f func([]byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sees = f
}

// cut closes all connections of the proxy and refuses new connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// mend ends a cut or a hold: the proxy accepts connections and forwards all messages again.
func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.hold = false, -1
}
