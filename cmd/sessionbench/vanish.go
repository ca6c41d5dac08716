package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/sqlstore"
)

const (
	leaveEvery = 20              // one request of so many is abandoned
	held       = 2 * time.Second // how long Redis's reply is held back, once
	// checkDeadline is in what time sessiond answers a check when Redis does not: 120 ms for Redis,
	// and the rest for Postgres.
	checkDeadline = 150 * time.Millisecond
	callDeadline  = 100 * time.Millisecond // of a caller in process
	// revokedEvery: one session of so many is revoked. If Redis's reply goes to the wrong check, a
	// live session is refused or a revoked one accepted. The session's name would not show it,
	// because it comes from the token.
	revokedEvery = 4
)

// vanish has clients leave without their answer at full load, and Redis hold back one reply. All
// other answers must be right. The sessions are in Postgres, too, which is asked when Redis is late.
func (b *bench) vanish(ctx context.Context) error {
	sp, err := b.Claim(ctx, b.RedisURL)
	if err != nil {
		return err
	}
	requests, ledger, err := b.signIn(ctx, sp)
	if err != nil {
		return err
	}
	t := report.Table{Part: report.Vanish, Name: fmt.Sprintf(
		"%d clients for %v each; one request of %d is abandoned by its client, and Redis holds one reply back for %v", principal, b.Duration, leaveEvery, held)}
	for _, measure := range []func(context.Context, *proxy, string, []load.Request, session.Finder, *load.Work) (report.Row, error){b.vanishHTTP, b.vanishDirect} {
		if err := b.Scope(func() error {
			u, err := url.Parse(sp.URL)
			if err != nil || u.Scheme != "redis" {
				return errors.New("holding a reply back needs a Redis without TLS, redis://")
			}
			p, err := startProxy(ctx, u.Host)
			if err != nil {
				return err
			}
			b.Later(p.close)
			u.Host = p.listener.Addr().String()
			w := load.NewWork()
			row, err := measure(ctx, p, u.String(), requests, ledger, w)
			b.report.Complain(row.Name, w.Wrong, w.Complaint)
			f := row.Rounds[0]
			f[report.Checks], f[report.Rate], f[report.P99] = float64(w.Checks()), w.Rate(), micros(w.Percentile(99))
			f[report.Longest] = load.Millis(w.Percentile(100))
			f[report.Vanished], f[report.Declined], f[report.Wrong] = float64(w.Vanished), float64(w.Declined), float64(w.Wrong)
			t.Rows = append(t.Rows, row)
			return err
		}); err != nil {
			return err
		}
	}
	b.report.Add(t)
	return nil
}

// signIn opens sessions as a login does, without the cost of passwords, and revokes some.
func (b *bench) signIn(ctx context.Context, sp *stage.Space) ([]load.Request, session.Finder, error) {
	const perUser = 10
	b.Say("signing in %s", count(b.Sessions, "session"))
	db, err := sqlstore.Open(ctx, b.Latest().DatabaseURL, sqlstore.Options{})
	if err != nil {
		return nil, nil, err
	}
	b.Later(db.Close)
	v, err := b.Verifier(sp.URL, redisstore.Options{LookTimeout: load.Patience, ApplyTimeout: load.Patience})
	if err != nil {
		return nil, nil, err
	}
	v.Now = time.Now
	m := session.Manager{
		Verifier: *v, Ledger: db.Sessions(), Log: slog.New(slog.DiscardHandler),
		AccessTTL: stage.TokenTTL, IdleTTL: 2 * stage.TokenTTL, MaxTTL: 2 * stage.TokenTTL,
	}
	var requests []load.Request
	var user identity.User
	for i := range b.Sessions {
		if i%perUser == 0 {
			user = newUser("none")
			if err := db.Users().Create(ctx, user, time.Time{}, nil); err != nil {
				return nil, nil, err
			}
		}
		set, opened, err := m.Start(ctx, session.Subject{ID: user.ID, CredentialVersion: user.PasswordVersion}, session.Client{})
		if err != nil {
			return nil, nil, err
		}
		r := load.NewRequest(set.AccessToken, opened.ID)
		if r.Revoked = i%revokedEvery == 0; r.Revoked {
			if _, err := m.Revoke(ctx, user.ID, opened.ID, session.ReasonRevoked); err != nil {
				return nil, nil, err
			}
		}
		requests = append(requests, r)
	}
	return requests, m.Ledger, nil
}

func newUser(hash string) identity.User {
	id, now := session.NewTimedID(time.Now()), time.Now()
	return identity.User{
		ID: id, Username: id, Email: id + "@example.com", PasswordHash: hash, PasswordVersion: 1,
		Status: identity.StatusActive, CreatedAt: now, UpdatedAt: now,
	}
}

func (b *bench) vanishHTTP(ctx context.Context, p *proxy, redisURL string, requests []load.Request, _ session.Finder, w *load.Work) (report.Row, error) {
	f := report.Figures{report.Deadline: load.Millis(checkDeadline)}
	row := report.Row{Name: report.Verify, Rounds: []report.Figures{f}}
	service, err := b.Service(ctx, b.Latest(), redisURL, nil)
	if err != nil {
		return row, err
	}
	l := &leavers{addr: service.Addr, until: time.Now().Add(b.Duration + 2*load.Patience), asked: make([]int, principal)}
	if l.clients, err = load.DialAll(ctx, principal, l.addr); err != nil {
		return row, err
	}
	// The first answers fill the pools of sessiond.
	if _, err = b.checkOnce(ctx, l.clients, requests); err != nil {
		return row, err
	}
	l.clients.Close()
	if f[report.GoroutinesFirst], err = settle(ctx, service.Goroutines, 0); err != nil {
		return row, err
	}
	if l.clients, err = load.DialAll(ctx, principal, l.addr); err != nil {
		return row, err
	}
	defer b.stall(p).Stop()
	err = load.Drive(ctx, principal, b.Duration, &load.Supply{Requests: requests}, l.ask, w)
	l.clients.Close()
	if err == nil {
		f[report.GoroutinesLast], err = settle(ctx, service.Goroutines, f[report.GoroutinesFirst])
	}
	return row, err
}

// stall has the proxy hold a reply back half way through.
func (b *bench) stall(p *proxy) *time.Timer {
	b.Say("one caller of %d leaves without its answer, for %v", leaveEvery, b.Duration)
	return time.AfterFunc(b.Duration/2, func() {
		b.Say("holding one reply of Redis back for %v", held)
		p.hold.Store(int64(held))
	})
}

// leavers are clients some of which leave.
type leavers struct {
	clients load.Clients
	addr    string
	until   time.Time
	asked   []int // requests of each client
}

func (l *leavers) ask(ctx context.Context, caller int, r *load.Request) error {
	l.asked[caller]++
	n := l.asked[caller] + caller // they do not leave at the same time
	if n%leaveEvery == 0 {
		return l.leave(ctx, caller, r, n%(2*leaveEvery) == 0)
	}
	answer, err := l.clients[caller].Ask(r.Wire)
	if err != nil {
		return err
	}
	if answer.StatusCode() == http.StatusServiceUnavailable {
		return load.ErrDeclined
	}
	return r.Verify(answer.StatusCode(), answer.Header.Peek("X-Auth-Session"), true)
}

// leave sends a request and closes the connection, politely or as if the cable was pulled. Then it
// connects again.
func (l *leavers) leave(ctx context.Context, caller int, r *load.Request, politely bool) error {
	c := l.clients[caller].Conn
	if _, err := c.Write(r.Wire); err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	if tcp, ok := c.(*net.TCPConn); ok && !politely {
		_ = tcp.SetLinger(0) // makes Close send a reset
	}
	_ = c.Close()
	next, err := load.Dial(ctx, l.addr)
	if err != nil {
		return err
	}
	l.clients[caller] = next
	return errors.Join(load.ErrVanished, next.SetDeadline(l.until))
}

func (b *bench) vanishDirect(ctx context.Context, p *proxy, redisURL string, requests []load.Request, ledger session.Finder, w *load.Work) (report.Row, error) {
	goroutines := func(context.Context) (float64, error) { return float64(runtime.NumGoroutine()), nil }
	f := report.Figures{report.Deadline: load.Millis(callDeadline), report.GoroutinesFirst: float64(runtime.NumGoroutine())}
	row := report.Row{Name: report.InProcess, Rounds: []report.Figures{f}}
	err := b.Scope(func() error {
		v, err := b.Verifier(redisURL, redisstore.Options{})
		if err != nil {
			return err
		}
		v.Fallback = &session.LedgerFallback{Store: v.Store, Finder: ledger}
		asked := make([]int, principal)
		ask := func(ctx context.Context, caller int, r *load.Request) error {
			asked[caller]++
			after := time.Duration(asked[caller]/leaveEvery%10) * 20 * time.Microsecond
			return callWithin(ctx, v, r, (asked[caller]+caller)%leaveEvery == 0, after)
		}
		if err := load.Drive(ctx, principal, load.Patience, &load.Supply{Requests: requests, Once: true}, ask, load.NewWork()); err != nil {
			return err
		}
		defer b.stall(p).Stop()
		return load.Drive(ctx, principal, b.Duration, &load.Supply{Requests: requests}, ask, w)
	})
	if err == nil {
		f[report.GoroutinesLast], err = settle(ctx, goroutines, f[report.GoroutinesFirst])
	}
	return row, err
}

// callWithin makes one check under callDeadline. A caller that leaves cancels it after a moment.
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

// settle counts goroutines until there are no more than most, for 10 s at the longest. If most is 0,
// it counts until two counts are the same.
func settle(ctx context.Context, count func(context.Context) (float64, error), most float64) (float64, error) {
	deadline := time.Now().Add(10 * time.Second)
	for last := -1.0; ; {
		n, err := count(ctx)
		if err != nil || n <= most || most == 0 && n == last || time.Now().After(deadline) || ctx.Err() != nil {
			return n, errors.Join(err, ctx.Err())
		}
		last = n
		load.Pause(ctx, 200*time.Millisecond)
	}
}

// proxy passes TCP on to a Redis, and can hold a reply back.
type proxy struct {
	listener net.Listener
	hold     atomic.Int64 // nanoseconds to hold the next reply back for
	close    func() error
}

func startProxy(ctx context.Context, target string) (*proxy, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &proxy{listener: listener, close: func() error { cancel(); return listener.Close() }}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(ctx, client, target)
		}
	}()
	return p, nil
}

func (p *proxy) serve(ctx context.Context, client net.Conn, target string) {
	defer client.Close() //nolint:errcheck // the sender notices what is lost
	server, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // as above
	defer context.AfterFunc(ctx, func() { _ = client.Close(); _ = server.Close() })()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, delayed{server, p, ctx})
}

// delayed is a connection whose reads may be held back.
type delayed struct {
	net.Conn
	p   *proxy
	ctx context.Context
}

func (d delayed) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	load.Pause(d.ctx, time.Duration(d.p.hold.Swap(0)))
	return n, err
}
