package faultsuite

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// link is a TCP proxy in front of one server. A fault can slow it down, stall it in one or both
// directions, cut it, or lose a single reply.
type link struct {
	port   int
	target string
	listen net.Listener
	rename []string // old and new text in turn, replaced in what the server sends
	up     flow     // from the client to the server
	down   flow     // from the server to the client

	mu    sync.Mutex
	cut   bool
	pairs map[*pair]struct{}
	lose  *loss
	wg    sync.WaitGroup
}

// flow is one direction of a link.
type flow struct {
	mu    sync.Mutex
	open  chan struct{} // closed while bytes pass
	delay time.Duration
}

// pair is a client's connection and the connection to the server that belongs to it.
type pair struct {
	client, server net.Conn
	mu             sync.Mutex
	lost           bool // the next bytes of the server are dropped, and both connections closed
}

// loss is an order to break the connection around a client's message.
type loss struct {
	text   []byte // the message contains this
	before bool   // drop the message, too; otherwise only the reply
	hit    chan struct{}
}

func startLink(t testing.TB, target string) *link {
	t.Helper()
	l := &link{port: freePort(t), target: target, pairs: map[*pair]struct{}{}}
	l.up.open, l.down.open = closed(), closed()
	var err error
	if l.listen, err = net.Listen("tcp", local(l.port)); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(func() {
		for {
			conn, err := l.listen.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.listen.Close()
		l.heal()
		l.cutAll()
		l.wg.Wait()
	})
	return l
}

func (l *link) addr() string { return local(l.port) }

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// translate makes the link replace a server's port with another port in everything the server
// sends. Sentinels and Cluster nodes name servers, and a replica must reach those through its own
// links. Both ports have five digits, so lengths in the protocol stay right.
func (l *link) translate(from, to int) {
	for _, form := range []string{"127.0.0.1:%d", "127.0.0.1 %d", "\r\n$5\r\n%d\r\n", "\r\n:%d\r\n"} {
		l.rename = append(l.rename, fmt.Sprintf(form, from), fmt.Sprintf(form, to))
	}
}

func (l *link) serve(client net.Conn) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", l.target, 5*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	p := &pair{client: client, server: server}
	if !l.add(p) {
		return
	}
	defer l.remove(p)
	var wg sync.WaitGroup
	wg.Go(func() { l.forward(p, &l.up, client, server, l.seenUp) })
	wg.Go(func() { l.forward(p, &l.down, server, client, l.seenDown) })
	wg.Wait()
}

// forward copies bytes in one direction. Each chunk waits for its delay and for the flow to be open.
func (l *link) forward(p *pair, f *flow, from, to net.Conn, seen func(*pair, []byte) ([]byte, bool)) {
	type chunk struct {
		data []byte
		due  time.Time
	}
	queue := make(chan chunk, 256)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { // while the flow is stalled, its ends do not notice that the other end closed
			f.wait()
			_ = from.Close()
			_ = to.Close()
		}()
		for c := range queue {
			if wait := time.Until(c.due); wait > 0 {
				time.Sleep(wait)
			}
			f.wait()
			if data, last := seen(p, c.data); len(data) > 0 {
				if _, err := to.Write(data); err != nil {
					return
				}
			} else if last {
				return
			}
		}
	}()
	defer func() {
		close(queue)
		<-done
	}()
	for {
		buf := make([]byte, 16<<10)
		n, err := from.Read(buf)
		if n > 0 {
			f.mu.Lock()
			due := time.Now().Add(f.delay)
			f.mu.Unlock()
			select {
			case queue <- chunk{buf[:n], due}:
			case <-done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// seenUp inspects what a client sends.
func (l *link) seenUp(p *pair, data []byte) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lose == nil || !bytes.Contains(data, l.lose.text) {
		return data, false
	}
	order := l.lose
	l.lose = nil
	close(order.hit)
	if order.before {
		return nil, true
	}
	p.mu.Lock()
	p.lost = true
	p.mu.Unlock()
	return data, false
}

// seenDown inspects what the server sends.
func (l *link) seenDown(p *pair, data []byte) ([]byte, bool) {
	p.mu.Lock()
	lost := p.lost
	p.mu.Unlock()
	if lost {
		return nil, true
	}
	for i := 0; i < len(l.rename); i += 2 {
		data = bytes.ReplaceAll(data, []byte(l.rename[i]), []byte(l.rename[i+1]))
	}
	return data, false
}

func (l *link) add(p *pair) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return false
	}
	l.pairs[p] = struct{}{}
	return true
}

func (l *link) remove(p *pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pairs, p)
}

// slow delays every message, in each direction by half of the round trip.
func (l *link) slow(roundTrip time.Duration) {
	for _, f := range []*flow{&l.up, &l.down} {
		f.mu.Lock()
		f.delay = roundTrip / 2
		f.mu.Unlock()
	}
}

// wait waits until the flow is open.
func (f *flow) wait() {
	f.mu.Lock()
	open := f.open
	f.mu.Unlock()
	<-open
}

// stall holds back everything that flows in a direction, as a network that drops packets does.
// heal delivers it, if the connection still exists.
func (f *flow) stall() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.open:
		f.open = make(chan struct{})
	default:
	}
}

// blackHole stalls both directions. Neither end notices.
func (l *link) blackHole() {
	l.up.stall()
	l.down.stall()
}

// cutAll closes all connections and refuses new ones until heal.
func (l *link) cutAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	l.closePairs()
}

// drop closes all connections and accepts new ones.
func (l *link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closePairs()
}

func (l *link) closePairs() {
	for p := range l.pairs {
		_ = p.client.Close()
		_ = p.server.Close()
	}
	clear(l.pairs)
}

// halfOpen closes the connections to the server only. Clients do not notice: what they send goes
// nowhere.
func (l *link) halfOpen() {
	l.blackHole()
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pairs {
		_ = p.server.Close()
	}
}

// loseReply breaks the connection of the next message that contains text. The server receives the
// message unless before is true. The channel is closed when that happened.
func (l *link) loseReply(text string, before bool) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = &loss{[]byte(text), before, make(chan struct{})}
	return l.lose.hit
}

// heal ends every fault of the link.
func (l *link) heal() {
	l.mu.Lock()
	l.cut, l.lose = false, nil
	l.mu.Unlock()
	for _, f := range []*flow{&l.up, &l.down} {
		f.mu.Lock()
		f.delay = 0
		select {
		case <-f.open:
		default:
			close(f.open)
		}
		f.mu.Unlock()
	}
}
