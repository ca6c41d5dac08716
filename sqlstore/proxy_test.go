package sqlstore_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a DB and its Postgres. A frozen proxy accepts bytes and
// forwards none, like a network with a broken cable.
type proxy struct {
	t        *testing.T
	listener net.Listener
	target   string

	mu     sync.Mutex
	open   []net.Conn
	frozen chan struct{} // closed: forward nothing
	group  sync.WaitGroup
}

// throughProxy returns a URL that leads to rawURL through a proxy.
func throughProxy(t *testing.T, rawURL string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listener: listener, target: u.Host, frozen: make(chan struct{})}
	p.group.Go(p.accept)
	t.Cleanup(func() {
		p.stop()
		p.group.Wait()
	})
	u.Host = listener.Addr().String()
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			p.t.Error(err)
			_ = client.Close()
			return
		}
		p.mu.Lock()
		p.open = append(p.open, client, server)
		p.mu.Unlock()
		p.group.Go(func() { p.forward(client, server) })
		p.group.Go(func() { p.forward(server, client) })
	}
}

func (p *proxy) forward(to io.WriteCloser, from io.Reader) {
	defer to.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		select {
		case <-p.frozen:
			_, _ = io.Copy(io.Discard, from)
			return
		default:
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// freeze stops forwarding.
func (p *proxy) freeze() { close(p.frozen) }

// stop refuses new connections and closes the open ones.
func (p *proxy) stop() {
	_ = p.listener.Close()
	p.cut()
}

// cut closes the open connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
}
