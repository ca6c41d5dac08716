package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/sqlstore"
)

const (
	steadyRate  = 500         // checks a second
	normalLogin = time.Second // how long a login may take when nothing is wrong
	bcryptCost  = 10          // sessiond's default
)

// plan is what happens in a scene.
type plan struct {
	name     string
	steady   bool // checks at an even rate
	full     bool // checks as fast as they are answered
	flood    *load.Flood
	long     bool // it lasts twice as long
	visitors bool // people at addresses of their own sign in, once each
	stampede bool // the flood comes at one moment
}

func (c *config) plans() []plan {
	return []plan{
		{name: report.Calm, steady: true},
		{name: report.Flooded, steady: true, flood: &load.Flood{Clients: 64}},
		{name: report.CalmAgain, steady: true},
		{name: report.Unchecked, flood: &load.Flood{Clients: 64}},
		{name: report.Crowded, steady: true, flood: &load.Flood{Clients: c.Crowd}},
		{name: report.Rude, steady: true, flood: &load.Flood{Clients: 64, Addresses: 16, Rude: true}, long: true, visitors: true},
		{name: report.Full, full: true},
		{name: report.FullFlood, full: true, flood: &load.Flood{Clients: 16}},
		{name: report.Stampede, stampede: true, flood: &load.Flood{Clients: c.Stampede}},
	}
}

// deployment is a way of running sessiond.
type deployment struct {
	flag, name string
	replicas   int
	cores      float64 // of CPU time for all of it; 0: all there are
}

var deployments = []deployment{
	{"one", "one replica", 1, 0},
	{"three", "three replicas", 3, 0},
	{"limited", "one replica in a control group that may use 1 core", 1, 1},
}

// storm floods sessiond with logins beside checks.
func (b *bench) storm(ctx context.Context) error {
	for _, d := range deployments {
		if !slices.Contains(b.Deployments, d.flag) {
			continue
		}
		if err := b.Scope(func() error { return b.deploy(ctx, d) }); errors.Is(err, stage.ErrNoGroups) {
			b.Say("NOT MEASURED: %s: %v", d.name, err)
		} else if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return nil
}

// cast is who takes part in the scenes of a deployment.
type cast struct {
	*bench
	services []*stage.Process
	addrs    []string
	requests []load.Request
	users    []string
	arrived  int // source addresses that were used, so that nobody pays for an earlier scene
	round    time.Duration
	rest     time.Duration // for a flood to build up before anything counts, and to go away again
}

func (b *bench) deploy(ctx context.Context, d deployment) (err error) {
	rounds, length := b.rounds(3, 10*time.Second) // a login takes seconds
	c := &cast{bench: b, round: length, rest: min(3*time.Second, length)}
	part, wrap := 1.0, []string(nil)
	if d.cores > 0 {
		part = d.cores / float64(runtime.NumCPU())
		if wrap, err = b.LimitCPU(d.cores); err != nil {
			return err
		}
	}
	sp, err := b.Claim(ctx, b.RedisURL)
	if err != nil {
		return err
	}
	if c.requests, _, err = b.signIn(ctx, sp); err != nil {
		return err
	}
	c.requests = slices.DeleteFunc(c.requests, func(r load.Request) bool { return r.Revoked })
	hasher, err := identity.NewHasher(bcryptCost, nil)
	if err != nil {
		return err
	}
	if c.users, err = b.people(ctx, hasher, 2000); err != nil {
		return err
	}
	for range d.replicas {
		p, err := b.Service(ctx, b.Latest(), sp.URL, wrap, "SESSIOND_TRUSTED_PROXIES=127.0.0.0/8")
		if err != nil {
			return err
		}
		c.services, c.addrs = append(c.services, p), append(c.addrs, p.Addr)
	}
	// One thread is enough to ask, and leaves more to those who answer.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if _, err := c.check(ctx, time.Now(), c.rest); err != nil { // Redis learns the sessions
		return err
	}
	t := report.Table{Part: report.Storm, Name: d.name, Round: length}
	for _, p := range b.plans() {
		t.Rows = append(t.Rows, report.Row{Name: p.name})
	}
	for round := range rounds {
		limit, err := b.bcryptLimit(ctx, hasher, length/4)
		if err != nil {
			return err
		}
		b.Say("%s, round %d of %d: bcrypt allows %.1f logins a second", d.name, round+1, rounds, limit*part)
		calm := load.NewHistogram()
		for i, p := range b.plans() {
			f, checks, err := c.play(ctx, p)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if p.name == report.Calm || p.name == report.CalmAgain {
				calm.Merge(checks)
			}
			load.Pause(ctx, c.rest)
			before := limit
			if limit, err = b.bcryptLimit(ctx, hasher, length/4); err != nil {
				return err
			}
			f[report.Limit] = (before + limit) / 2 * part
			if rate, ok := f[report.LoginRate]; ok {
				f[report.LoginShare] = rate / f[report.Limit]
			}
			b.Say("  %s: check p99 %.1f ms, %.0f checks/s; %.1f logins/s of %.1f, %.0f refused", p.name,
				f[report.CheckP99], f[report.Rate], f[report.LoginRate], f[report.Limit], f[report.Refused])
			t.Rows[i].Rounds = append(t.Rows[i].Rounds, f)
		}
		for _, row := range t.Rows {
			if f := row.Rounds[round]; f[report.CheckP99] > 0 && row.Name != report.Full && row.Name != report.FullFlood {
				f[report.ToCalm] = f[report.CheckP99] / load.Millis(time.Duration(calm.ValueAtPercentile(99)))
			}
		}
	}
	b.report.Add(t)
	return ctx.Err()
}

// people makes users who can log in. They share one password and its hash, because only checking the
// hash is measured.
func (b *bench) people(ctx context.Context, hasher *identity.Hasher, n int) (names []string, err error) {
	hash, err := hasher.Hash(ctx, load.Password)
	if err != nil {
		return nil, err
	}
	db, err := sqlstore.Open(ctx, b.Latest().DatabaseURL, sqlstore.Options{})
	if err != nil {
		return nil, err
	}
	defer db.Close() //nolint:errcheck // Create says what was written
	for range n {
		user := newUser(hash)
		if err := db.Users().Create(ctx, user, time.Time{}, nil); err != nil {
			return nil, err
		}
		names = append(names, user.Username)
	}
	return names, nil
}

// bcryptLimit is how many passwords a second all cores check that do nothing else.
func (b *bench) bcryptLimit(ctx context.Context, hasher *identity.Hasher, d time.Duration) (float64, error) {
	cores := runtime.NumCPU()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	w := load.NewWork()
	err := load.Drive(ctx, cores, d, &load.Supply{Requests: make([]load.Request, 1)}, func(ctx context.Context, _ int, _ *load.Request) error {
		return hasher.VerifyNobody(ctx, load.Password)
	}, w)
	return w.Rate(), err
}

// flood completes a flood with replicas, users and source addresses that nobody has used.
func (c *cast) flood(f load.Flood) *load.Flood {
	f.Addrs, f.First = c.addrs, c.arrived
	if f.Users == nil {
		f.Users = c.users
	}
	c.arrived += f.Clients
	return &f
}

// check makes checks at an even rate for d from begin on.
func (c *cast) check(ctx context.Context, begin time.Time, d time.Duration) (*hdrhistogram.Histogram, error) {
	ctx, cancel := context.WithDeadline(ctx, begin.Add(d))
	defer cancel()
	return (&load.Steady{Addrs: c.addrs, Requests: c.requests, Rate: steadyRate}).Run(ctx, begin)
}

// play plays one scene.
func (c *cast) play(ctx context.Context, p plan) (f report.Figures, checks *hdrhistogram.Histogram, err error) {
	f = report.Figures{report.Dark: 0}
	if p.stampede {
		return f, nil, c.stampede(ctx, p, f)
	}
	begin, length := time.Now(), c.round
	if p.flood != nil {
		begin = begin.Add(c.rest)
	}
	if p.long {
		length *= 2
	}
	scene, cancel := context.WithDeadline(ctx, begin.Add(length))
	defer cancel()
	var g errgroup.Group
	var logins, visitors *load.Logins
	if p.steady {
		g.Go(func() (err error) { checks, err = c.check(ctx, begin, length); return err })
	}
	if p.full {
		g.Go(func() (err error) { checks, err = c.fullSpeed(ctx, begin, length); return err })
	}
	if p.flood != nil {
		flood := c.flood(*p.flood)
		g.Go(func() (err error) { logins, err = flood.Run(scene, begin); return err })
	}
	if p.visitors {
		visit := c.flood(load.Flood{
			Users: c.users[len(c.users)-report.Visitors:], Clients: report.Visitors, Once: true,
			Spacing: length * 3 / 4 / report.Visitors, // the last ones have time to be answered
		})
		g.Go(func() (err error) { visitors, err = visit.Run(scene, begin); return err })
	}
	g.Go(func() error { f[report.Dark] = c.watch(scene); return nil })
	if err := g.Wait(); err != nil {
		return f, nil, err
	}
	recordChecks(f, checks, length)
	recordLogins(f, logins)
	if visitors != nil {
		f[report.Prompt] = float64(visitors.Prompt)
	}
	return f, checks, c.resident(f)
}

func recordChecks(f report.Figures, h *hdrhistogram.Histogram, length time.Duration) {
	if h == nil {
		return
	}
	f[report.CheckP50], f[report.CheckP99] = load.Millis(time.Duration(h.ValueAtPercentile(50))), load.Millis(time.Duration(h.ValueAtPercentile(99)))
	f[report.Rate] = float64(h.TotalCount()) / length.Seconds()
}

func recordLogins(f report.Figures, l *load.Logins) {
	if l == nil {
		return
	}
	f[report.SignedIn], f[report.LoginRate], f[report.LoginP99] = float64(l.SignedIn), l.Rate, l.P99
	f[report.Shed], f[report.Limited], f[report.Refused] = float64(l.Shed), float64(l.Limited), float64(l.Shed+l.Limited)
	f[report.Unanswered], f[report.Longest], f[report.LongestRefusal] = float64(l.Unanswered), l.Longest, l.LongestShed
}

// fullSpeed makes checks over 64 connections, each one after another.
func (c *cast) fullSpeed(ctx context.Context, begin time.Time, length time.Duration) (*hdrhistogram.Histogram, error) {
	cs, err := load.DialAll(ctx, principal, c.addrs...)
	if err != nil {
		return nil, err
	}
	defer cs.Close()
	load.Pause(ctx, time.Until(begin))
	defer cs.Bound(ctx, length)()
	w := load.NewWork()
	err = load.Drive(ctx, principal, length, &load.Supply{Requests: c.requests}, cs.Ask(true), w)
	c.report.Complain(report.Full, w.Wrong, w.Complaint)
	return w.Latencies, err
}

// watch counts how often a replica does not say that it lives.
func (c *cast) watch(ctx context.Context) (dark float64) {
	for ctx.Err() == nil {
		load.Pause(ctx, 100*time.Millisecond)
		for _, p := range c.services {
			if err := p.Live(ctx); err != nil && ctx.Err() == nil {
				dark++
			}
		}
	}
	return dark
}

// resident records the memory of the largest replica, with its hashing process.
func (c *cast) resident(f report.Figures) error {
	for _, p := range c.services {
		megabytes, err := probe.FamilyMemory(p.PID())
		if err != nil {
			return err
		}
		f[report.Resident] = max(f[report.Resident], megabytes)
	}
	return nil
}

// stampede has everybody come at the same moment, once, and measures how long it takes until others
// can log in as if nothing had happened.
func (c *cast) stampede(ctx context.Context, p plan, f report.Figures) error {
	logins, err := c.flood(*p.flood).Stampede(ctx)
	if err != nil {
		return err
	}
	recordLogins(f, logins)
	if err := c.resident(f); err != nil {
		return err
	}
	over := time.Now()
	for ctx.Err() == nil {
		l, err := c.flood(load.Flood{Clients: 1, Once: true, Spacing: 1}).Run(ctx, over)
		if err != nil {
			return err
		}
		if l.SignedIn == 1 && l.Shed+l.Limited == 0 && l.Longest <= load.Millis(normalLogin) {
			break
		}
	}
	f[report.Recovery] = load.Millis(time.Since(over))
	checks, err := c.check(ctx, time.Now(), c.rest)
	recordChecks(f, checks, c.rest)
	delete(f, report.Rate) // it was not loaded
	if c.services[0].Live(ctx) != nil {
		f[report.Dark]++
	}
	return err
}
