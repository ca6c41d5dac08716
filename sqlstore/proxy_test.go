package sqlstore_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy forwards connections to a Postgres. A frozen proxy accepts bytes but does not forward them,
// like a network with a broken cable.
type proxy struct {
	t        *testing.T
	listener net.Listener
	target   string

	mu     sync.Mutex
	open   []net.Conn
	frozen chan struct{} // the proxy stops forwarding when this channel is closed
	group  sync.WaitGroup
}

// throughProxy starts a proxy for the Postgres at rawURL. It returns the proxy and the URL that
// uses it.
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

// freeze keeps all connections open but stops forwarding.
func (p *proxy) freeze() { close(p.frozen) }

// stop closes all open connections of the proxy and refuses new ones.
func (p *proxy) stop() {
	_ = p.listener.Close()
	p.cut()
}

// cut closes all open connections of the proxy. New connections are still accepted.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
}
