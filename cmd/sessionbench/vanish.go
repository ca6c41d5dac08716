package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

// vanishing is what vanish finds of one contender.
type vanishing struct {
	Name             string  `json:"name"`
	Checks           int     `json:"checks"`
	Rate             float64 `json:"checks_per_second"`
	Vanished         int     `json:"vanished"`
	Declined         int     `json:"declined"` // 503, or the caller's deadline
	Wrong            int     `json:"wrong"`
	P99              float64 `json:"p99_us"`
	Longest          float64 `json:"longest_ms"`
	Deadline         float64 `json:"deadline_ms"`
	GoroutinesBefore int     `json:"goroutines_before"`
	GoroutinesAfter  int     `json:"goroutines_after"`
}

const (
	// leaveEvery: one question of so many is not waited for.
	leaveEvery = 20
	// held is how long Redis's reply is held back, once.
	held = 2 * time.Second
	// checkDeadline is within what the service answers a check that Redis leaves
	// waiting: 120 ms for Redis, and the rest for Postgres.
	checkDeadline = 150 * time.Millisecond
	// callDeadline is that of a caller without HTTP.
	callDeadline = 100 * time.Millisecond
	// revokedEvery: one session of so many was revoked. A reply of Redis that goes
	// to another check than its own shows as a session that should not be let
	// through, or should: the session's name alone comes from the token.
	revokedEvery = 4
)

// vanish has clients leave without their answer, at full load, and Redis hold back
// one reply; all other answers must be right. Here the sessions are in Postgres,
// too, which is asked when Redis is late.
func vanish(ctx context.Context, s *stage, r *report) error {
	return s.scope(func(s *stage) error {
		requests, ledger, err := s.realSessions(ctx)
		if err != nil {
			return err
		}
		for _, part := range []func(context.Context, []request, issuer.Finder) (vanishing, work, error){s.vanishHTTP, s.vanishDirect} {
			v, w, err := part(ctx, requests, ledger)
			if err != nil {
				return err
			}
			v.Checks, v.Vanished, v.Declined, v.Wrong = w.checks, w.vanished, w.declined, w.wrong
			v.Rate = float64(w.checks) / w.took.Seconds()
			v.P99, v.Longest = micros(w.p99), micros(w.longest)/1000
			r.complain(v.Name, &w)
			r.Vanishing = append(r.Vanishing, v)
		}
		return nil
	})
}

// realSessions signs users in, without the cost of passwords, and revokes some
// of the sessions.
func (s *stage) realSessions(ctx context.Context) ([]request, issuer.Finder, error) {
	const perUser = 10
	s.say("signing in %s", count(s.Sessions, "session"))
	db, err := sqlstore.Open(ctx, s.databaseURL, sqlstore.Options{})
	if err != nil {
		return nil, nil, err
	}
	s.later(db.Close)
	v, err := s.verifier(s.space, redisstore.Options{LookTimeout: patience, ApplyTimeout: patience})
	if err != nil {
		return nil, nil, err
	}
	v.Now = time.Now
	ledger := db.Sessions()
	m := issuer.Manager{
		Verifier: *v, Store: v.Store.(issuer.Store), Ledger: ledger, Log: slog.New(slog.DiscardHandler),
		AccessTTL: tokenTTL, IdleTTL: 2 * tokenTTL, MaxTTL: 2 * tokenTTL,
	}
	var requests []request
	var user identity.User
	for i := range s.Sessions {
		if i%perUser == 0 {
			user = newUser()
			if err := db.Users().Create(ctx, user, time.Time{}, nil); err != nil {
				return nil, nil, err
			}
		}
		set, opened, err := m.Start(ctx, issuer.Subject{ID: user.ID, CredentialVersion: user.PasswordVersion}, issuer.Client{})
		if err != nil {
			return nil, nil, err
		}
		r := newRequest(set.AccessToken, opened.ID)
		if i%revokedEvery == 0 {
			r.revoked = true
			if _, err := m.Revoke(ctx, user.ID, opened.ID, issuer.ReasonRevoked); err != nil {
				return nil, nil, err
			}
		}
		requests = append(requests, r)
	}
	return requests, ledger, nil
}

func newUser() identity.User {
	id, now := issuer.NewTimedID(time.Now()), time.Now()
	return identity.User{
		ID: id, Username: id, Email: id + "@example.com", PasswordHash: "none", PasswordVersion: 1,
		Status: identity.StatusActive, CreatedAt: now, UpdatedAt: now,
	}
}

// proxied starts a proxy to the Redis and returns it with the Redis's URL by way of it.
func (s *stage) proxied(ctx context.Context) (*proxy, string, error) {
	u, err := url.Parse(s.space.url)
	if err != nil || u.Scheme != "redis" {
		return nil, "", errors.New("vanish: holding a reply back needs a Redis without TLS, redis://")
	}
	p, err := startProxy(ctx, s.space.client.Options().Addr)
	if err != nil {
		return nil, "", err
	}
	u.Host = p.addr()
	return p, u.String(), nil
}

// stall has the proxy hold a reply back in mid-run.
func (s *stage) stall(p *proxy) *time.Timer {
	return time.AfterFunc(s.Duration/2, func() {
		s.say("holding one reply of Redis back for %v", held)
		p.hold.Store(int64(held))
	})
}

func (s *stage) vanishHTTP(ctx context.Context, requests []request, _ issuer.Finder) (v vanishing, w work, err error) {
	v = vanishing{Name: verify, Deadline: micros(checkDeadline) / 1000}
	err = s.scope(func(s *stage) error {
		p, redisURL, err := s.proxied(ctx)
		if err != nil {
			return err
		}
		s.later(p.close)
		service, err := s.service(ctx, redisURL, s.space.prefix)
		if err != nil {
			return err
		}
		l := &leavers{addr: service.addr, until: time.Now().Add(s.Duration + 2*patience), asked: make([]int, principal)}
		if l.clients, err = dialAll(ctx, l.addr, principal); err != nil {
			return err
		}
		// The first answers fill Redis and the service's pools.
		if w, err = s.askOnce(ctx, l.clients, requests); err != nil {
			return err
		}
		l.clients.close()
		if v.GoroutinesBefore, err = settle(ctx, service.goroutines, 0); err != nil {
			return err
		}
		if l.clients, err = dialAll(ctx, l.addr, principal); err != nil {
			return err
		}
		s.say("%s: one client of %d leaves without its answer, for %v", verify, leaveEvery, s.Duration)
		timer := s.stall(p)
		w, err = drive(ctx, principal, s.Duration, &supply{requests: requests}, l.ask)
		timer.Stop()
		l.clients.close()
		if err != nil {
			return err
		}
		v.GoroutinesAfter, err = settle(ctx, service.goroutines, v.GoroutinesBefore)
		return err
	})
	return v, w, err
}

// leavers are clients some of which leave.
type leavers struct {
	clients clients
	addr    string
	until   time.Time
	asked   []int // by each
}

func (l *leavers) ask(ctx context.Context, caller int, r *request) error {
	l.asked[caller]++
	n := l.asked[caller] + caller // not all at once
	if n%leaveEvery == 0 {
		return l.leave(ctx, caller, r, n%(2*leaveEvery) == 0)
	}
	a, err := l.clients[caller].ask(r.wire)
	if err != nil {
		return err
	}
	if a.status == http.StatusServiceUnavailable {
		return errDeclined
	}
	return a.judge(r, true)
}

// leave sends a request and goes, politely or as one whose cable was pulled, and
// comes back as somebody else.
func (l *leavers) leave(ctx context.Context, caller int, r *request, politely bool) error {
	c := l.clients[caller].conn
	if _, err := c.Write(r.wire); err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	if tcp, ok := c.(*net.TCPConn); ok && !politely {
		_ = tcp.SetLinger(0) // only makes the end less abrupt
	}
	_ = c.Close() // that it may fail is the point
	next, err := dial(ctx, l.addr)
	if err != nil {
		return err
	}
	if err := next.conn.SetDeadline(l.until); err != nil {
		return fmt.Errorf("dial a contender: %w", err)
	}
	l.clients[caller] = next
	return errVanished
}

func (s *stage) vanishDirect(ctx context.Context, requests []request, ledger issuer.Finder) (v vanishing, w work, err error) {
	v = vanishing{Name: inProcess, Deadline: micros(callDeadline) / 1000, GoroutinesBefore: runtime.NumGoroutine()}
	err = s.scope(func(s *stage) error {
		p, redisURL, err := s.proxied(ctx)
		if err != nil {
			return err
		}
		s.later(p.close)
		verifier, err := s.verifier(&space{url: redisURL, prefix: s.space.prefix}, redisstore.Options{})
		if err != nil {
			return err
		}
		verifier.Fallback = &issuer.LedgerFallback{Store: verifier.Store.(issuer.Store), Finder: ledger}
		asked := make([]int, principal)
		ask := func(ctx context.Context, caller int, r *request) error {
			asked[caller]++
			after := time.Duration(asked[caller]/leaveEvery%10) * 20 * time.Microsecond
			return callWithin(ctx, verifier, r, (asked[caller]+caller)%leaveEvery == 0, after)
		}
		if _, err := drive(ctx, principal, patience, &supply{requests: requests, once: true}, ask); err != nil {
			return err
		}
		s.say("%s: one caller of %d leaves without its answer, for %v", inProcess, leaveEvery, s.Duration)
		timer := s.stall(p)
		defer timer.Stop()
		w, err = drive(ctx, principal, s.Duration, &supply{requests: requests}, ask)
		return err
	})
	if err != nil {
		return v, w, err
	}
	v.GoroutinesAfter, err = settle(ctx, func(context.Context) (int, error) { return runtime.NumGoroutine(), nil }, v.GoroutinesBefore)
	return v, w, err
}

// callWithin makes one check under callDeadline, from which a caller that leaves
// turns away after a moment.
func callWithin(ctx context.Context, v *session.Verifier, r *request, leaves bool, after time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	if leaves {
		defer time.AfterFunc(after, cancel).Stop()
	}
	claims, err := v.Verify(ctx, r.token)
	switch {
	case err != nil && ctx.Err() != nil && leaves:
		return errVanished
	case err != nil && (ctx.Err() != nil || errors.Is(err, session.ErrUnavailable)):
		return errDeclined
	default:
		return judgeClaims(r, claims, err)
	}
}

// settleTimeout is how long what was left behind may take to end.
const settleTimeout = 10 * time.Second

// settle counts goroutines until there are no more than at most, or for as long
// as it takes; with at most 0, until the count stands still.
func settle(ctx context.Context, count func(context.Context) (int, error), atMost int) (int, error) {
	deadline := time.Now().Add(settleTimeout)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for last := -1; ; {
		n, err := count(ctx)
		if err != nil || n <= atMost || atMost == 0 && n == last || time.Now().After(deadline) {
			return n, err
		}
		last = n
		select {
		case <-ctx.Done():
			return n, ctx.Err()
		case <-tick.C:
		}
	}
}
