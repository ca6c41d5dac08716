package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy passes TCP on to a Redis, and can hold a reply back.
type proxy struct {
	listener net.Listener
	target   string
	hold     atomic.Int64 // nanoseconds that the next reply is held back for
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

func startProxy(ctx context.Context, target string) (*proxy, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	p := &proxy{listener: listener, target: target}
	p.ctx, p.cancel = context.WithCancel(ctx)
	p.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(conn) })
		}
	})
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// close ends it and every connection through it.
func (p *proxy) close() error {
	err := p.listener.Close()
	p.cancel()
	p.running.Wait()
	return err
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close() //nolint:errcheck // what is lost is the sender's to notice
	server, err := new(net.Dialer).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // as above
	part := func() {
		_ = client.Close() // wakes the other direction
		_ = server.Close()
	}
	defer context.AfterFunc(p.ctx, part)()
	var there sync.WaitGroup
	there.Go(func() {
		defer part()
		pass(server, client, func() {})
	})
	pass(client, server, p.delay)
	part()
	there.Wait()
}

// delay holds up who calls it, if it is the first since hold was set.
func (p *proxy) delay() {
	if d := time.Duration(p.hold.Swap(0)); d > 0 {
		late := time.NewTimer(d)
		defer late.Stop()
		select {
		case <-late.C:
		case <-p.ctx.Done():
		}
	}
}

// pass copies from one to the other; before is called ahead of each piece.
func pass(to, from net.Conn, before func()) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			before()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
