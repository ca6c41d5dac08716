package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/inetaf/tcpproxy"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

const (
	leaveEvery    = 20                     // each caller gives up one of this many requests before the answer
	held          = 2 * time.Second        // delay of the one late reply from Redis
	checkDeadline = 150 * time.Millisecond // sessiond must answer within this time: it waits up to 120 ms for Redis and then asks Postgres
	callDeadline  = 100 * time.Millisecond // context deadline of a call to the verifier without HTTP
)

// vanish sends token checks at full load. Some clients disconnect before the answer, and one reply
// of Redis is late. Every answer must be right. While Redis is late, sessiond finds the sessions in
// Postgres.
func (b *bench) vanish(ctx context.Context) {
	sp := b.Claim(ctx)
	requests, ledger := b.SignIn(ctx, sp, b.Sessions)
	t := report.Table{Part: report.Vanish, Name: fmt.Sprintf(
		"%d callers for %v each; one of %d leaves without its answer, and Redis holds one reply back for %v", principal, b.Duration, leaveEvery, held)}
	for _, name := range []string{report.Verify, report.InProcess} {
		b.Scope(func() {
			var hold atomic.Int64
			u := must.Get(url.Parse(sp.URL))
			u.Host = b.proxy(ctx, sp.Client.Options().Addr, &hold)
			f, w := report.Figures{}, load.NewWork()
			stall := func() *time.Timer {
				b.Say("%s: one caller of %d leaves without its answer, for %v", name, leaveEvery, b.Duration)
				return time.AfterFunc(b.Duration/2, func() { hold.Store(int64(held)) })
			}
			if name == report.Verify {
				b.vanishHTTP(ctx, u.String(), requests, stall, f, w)
			} else {
				b.vanishDirect(ctx, u.String(), requests, ledger, stall, f, w)
			}
			f[report.Checks], f[report.Rate], f[report.P99] = float64(w.Latencies.TotalCount()), w.Rate(), load.Micros(w.Percentile(99))
			f[report.Longest] = load.Millis(w.Percentile(100))
			f[report.Left], f[report.Declined], f[report.Wrong] = float64(w.Vanished), float64(w.Declined), float64(w.Wrong)
			b.report.Complain(name, w.Wrong, w.Complaint)
			t.Rows = append(t.Rows, report.Row{Name: name, Rounds: []report.Figures{f}})
		})
	}
	b.report.Tables = append(b.report.Tables, t)
}

func (b *bench) vanishHTTP(ctx context.Context, redisURL string, requests []load.Request, stall func() *time.Timer, f report.Figures, w *load.Work) {
	service := b.Service(ctx, b.Latest, redisURL, nil)
	f[report.Deadline] = load.Millis(checkDeadline)
	cs := must.Get(load.Dial(ctx, principal, service.Addr))
	b.checkOnce(ctx, cs, requests) // these checks make sessiond open all its connections to Redis and Postgres
	cs.Close()
	f[report.GoroutinesBefore] = settle(ctx, service.Goroutines, 0)
	cs = must.Get(load.Dial(ctx, principal, service.Addr))
	defer cs.Bound(ctx, b.Duration)()
	asked := make([]int, principal)
	defer stall().Stop()
	must.Do(load.Drive(ctx, principal, b.Duration, &load.Supply{Requests: requests}, func(ctx context.Context, caller int, r *load.Request) error {
		asked[caller]++
		if n := asked[caller] + caller; n%leaveEvery == 0 { // the number of the caller is added, because otherwise all callers would disconnect at once
			return leave(ctx, &cs[caller], service.Addr, r, n%(2*leaveEvery) == 0)
		}
		err := cs[caller].Check(r, true)
		if errors.Is(err, load.ErrWrong) && cs[caller].Status() == http.StatusServiceUnavailable {
			return load.ErrDeclined
		}
		return err
	}, w))
	cs.Close()
	f[report.GoroutinesAfter] = settle(ctx, service.Goroutines, f[report.GoroutinesBefore])
}

// leave sends r, disconnects before the answer, and connects again. If politely is not set, it
// disconnects with a TCP reset.
func leave(ctx context.Context, c **load.Client, addr string, r *load.Request, politely bool) error {
	if _, err := (*c).Write(r.Wire); err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	if tcp, ok := (*c).Conn.(*net.TCPConn); ok && !politely {
		_ = tcp.SetLinger(0) // makes Close send a TCP reset
	}
	_ = (*c).Close()
	next, err := load.Dial(ctx, 1, addr)
	if err != nil {
		return err
	}
	*c = next[0]
	return load.ErrVanished
}

func (b *bench) vanishDirect(ctx context.Context, redisURL string, requests []load.Request, ledger issuer.Finder, stall func() *time.Timer, f report.Figures, w *load.Work) {
	goroutines := func() float64 { return float64(runtime.NumGoroutine()) }
	f[report.Deadline], f[report.GoroutinesBefore] = load.Millis(callDeadline), settle(ctx, goroutines, 0)
	b.Scope(func() {
		v, store := b.Verifier(redisURL, redisstore.Options{})
		v.Fallback = &issuer.LedgerFallback{Store: store, Finder: ledger}
		asked := make([]int, principal)
		ask := func(ctx context.Context, caller int, r *load.Request) error {
			asked[caller]++
			after := time.Duration(asked[caller]/leaveEvery%10) * 20 * time.Microsecond
			return callWithin(ctx, v, r, (asked[caller]+caller)%leaveEvery == 0, after)
		}
		must.Do(load.Drive(ctx, principal, load.Patience, &load.Supply{Requests: requests, Once: true}, ask, load.NewWork()))
		defer stall().Stop()
		must.Do(load.Drive(ctx, principal, b.Duration, &load.Supply{Requests: requests}, ask, w))
	})
	f[report.GoroutinesAfter] = settle(ctx, goroutines, f[report.GoroutinesBefore])
}

// callWithin checks r's token with the deadline callDeadline. If leaves is set, the caller gives up
// when the time in the parameter after is over.
func callWithin(ctx context.Context, v *session.Verifier, r *load.Request, leaves bool, after time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	if leaves {
		defer time.AfterFunc(after, cancel).Stop()
	}
	claims, err := v.Verify(ctx, r.Token)
	switch {
	case err != nil && ctx.Err() != nil && leaves:
		return load.ErrVanished
	case err != nil && (ctx.Err() != nil || errors.Is(err, session.ErrUnavailable)):
		return load.ErrDeclined
	default:
		return verdict(r, claims, err)
	}
}

// settle waits up to 10 s until the number of goroutines, which count returns, is at most the limit
// most. If most is 0, settle waits until the number stays the same. It returns the last number.
func settle(ctx context.Context, count func() float64, most float64) (n float64) {
	deadline := time.Now().Add(10 * time.Second)
	for last := -1.0; ; last = n {
		n = count()
		if n <= most || most == 0 && n == last || time.Now().After(deadline) || ctx.Err() != nil {
			return n
		}
		load.Pause(ctx, 200*time.Millisecond)
	}
}

// proxy starts a TCP proxy for the Redis at target and returns its address. The proxy stops with the
// current Scope. If hold is set, the proxy delays the next reply by hold nanoseconds, but only once.
func (b *bench) proxy(ctx context.Context, target string, hold *atomic.Int64) (addr string) {
	listener := must.Get(new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"))
	p := &tcpproxy.Proxy{ListenFunc: func(string, string) (net.Listener, error) { return listener, nil }}
	p.AddRoute("", &tcpproxy.DialProxy{Addr: target, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return delayed{conn, hold}, err
	}})
	must.Do(p.Start())
	b.Later(p.Close)
	return listener.Addr().String()
}

type delayed struct {
	net.Conn
	hold *atomic.Int64 // delay of the next read in nanoseconds; Read then sets it to 0
}

func (d delayed) CloseWrite() error { return d.Conn.(*net.TCPConn).CloseWrite() } // tcpproxy calls this method if a connection has it

func (d delayed) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	time.Sleep(time.Duration(d.hold.Swap(0)))
	return n, err
}
