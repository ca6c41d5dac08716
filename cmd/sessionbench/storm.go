package main

import (
	"context"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/identity/hashing"
)

// scene is one kind of load.
type scene struct {
	name     string
	rate     int // checks a second; 0: none
	flood    *load.Flood
	long     bool // it lasts twice as long
	visitors bool // people at addresses of their own log in, once each
}

const (
	steady = 500 // checks a second
	full   = -1  // checks as fast as they are answered
)

func (c *config) scenes() []scene {
	return []scene{
		{name: report.Calm, rate: steady},
		{name: report.Flooded, rate: steady, flood: &load.Flood{Clients: 64}},
		{name: report.CalmAgain, rate: steady},
		{name: report.Unchecked, flood: &load.Flood{Clients: 64}},
		{name: report.Crowded, rate: steady, flood: &load.Flood{Clients: c.Crowd}},
		{name: report.Rude, rate: steady, flood: &load.Flood{Clients: 64, Addresses: 16, Rude: true}, long: true, visitors: true},
		{name: report.Full, rate: full},
		{name: report.FullFlood, rate: full, flood: &load.Flood{Clients: 16}},
		{name: report.Stampede, flood: &load.Flood{Clients: c.Stampede, Stampede: true}},
	}
}

// deployment is a way of running sessiond.
type deployment struct {
	flag, name string
	replicas   int
	cores      float64 // of CPU time for all of it; 0: all there are
}

// storm floods deployments of sessiond with logins beside checks.
func (b *bench) storm(ctx context.Context) {
	for _, d := range []deployment{
		{"one", "one replica", 1, 0}, {"three", "three replicas", 3, 0}, {"limited", "one replica in a control group that may use 1 core", 1, 1},
	} {
		if slices.Contains(b.Deployments, d.flag) {
			b.Scope(func() { b.deploy(ctx, d) })
		}
	}
}

// cast is who takes part in the scenes of a deployment.
type cast struct {
	*bench
	services []*stage.Process
	addrs    []string
	requests []load.Request
	users    []string
	hasher   *hashing.Hasher
	arrived  int // source addresses that were used, so that nobody pays for an earlier scene
	round    time.Duration
	rest     time.Duration // for a flood to build up before anything counts, and to go away again
}

func (b *bench) deploy(ctx context.Context, d deployment) {
	rounds, length := b.rounds(3, 10*time.Second) // a login takes seconds
	part, wrap := 1.0, []string(nil)
	if d.cores > 0 {
		part = d.cores / float64(runtime.NumCPU())
		var err error
		if wrap, err = b.LimitCPU(d.cores); err != nil {
			b.Say("NOT MEASURED: %s: no control group can be made here: %v", d.name, err)
			return
		}
	}
	const bcryptCost = 10 // sessiond's default
	c := &cast{bench: b, round: length, rest: min(3*time.Second, length), hasher: must.Get(hashing.NewHasher(bcryptCost, nil))}
	sp := b.Claim(ctx)
	requests, _ := b.SignIn(ctx, sp, b.Sessions)
	c.requests = slices.DeleteFunc(requests, func(r load.Request) bool { return r.Revoked })
	c.users = b.People(ctx, must.Get(c.hasher.Hash(ctx, load.Password)), 2000)
	for range d.replicas {
		p := b.Service(ctx, b.Latest(), sp.URL, wrap, "SESSIOND_TRUSTED_PROXIES=127.0.0.0/8")
		c.services, c.addrs = append(c.services, p), append(c.addrs, p.Addr)
	}
	// One thread is enough to ask, and leaves more to those who answer.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	must.Get(c.check(ctx, steady, time.Now(), c.rest)) // Redis learns the sessions
	t := report.Table{Part: report.Storm, Name: d.name, Round: length, Rows: make([]report.Row, len(b.scenes()))}
	for n := range rounds {
		limit, calm := c.bcryptLimit(ctx)*part, load.NewWork()
		for i, s := range b.scenes() {
			f, w := c.play(ctx, s)
			if w != nil && (s.name == report.Calm || s.name == report.CalmAgain) {
				calm.Latencies.Merge(w.Latencies)
			}
			load.Pause(ctx, c.rest)
			before := limit
			limit = c.bcryptLimit(ctx) * part
			f[report.BcryptLimit] = (before + limit) / 2
			if rate, ok := f[report.LoginRate]; ok {
				f[report.LoginShare] = rate / f[report.BcryptLimit]
			}
			b.Say("%s, round %d of %d, %s: check p99 %.1f ms; %.1f logins/s of %.1f, %.0f refused", d.name, n+1, rounds, s.name,
				f[report.CheckP99], f[report.LoginRate], f[report.BcryptLimit], f[report.Refused])
			t.Rows[i].Name, t.Rows[i].Rounds = s.name, append(t.Rows[i].Rounds, f)
		}
		for i, s := range b.scenes() {
			if f := t.Rows[i].Rounds[n]; f[report.CheckP99] > 0 && s.rate != full {
				f[report.ToCalm] = f[report.CheckP99] / load.Millis(calm.Percentile(99))
			}
		}
	}
	b.report.Add(t)
}

// bcryptLimit is how many passwords a second all cores check that do nothing else.
func (c *cast) bcryptLimit(ctx context.Context) float64 {
	cores, w := runtime.NumCPU(), load.NewWork()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	must.Do(load.Drive(ctx, cores, c.round/4, &load.Supply{Requests: make([]load.Request, 1)}, func(ctx context.Context, _ int, _ *load.Request) error {
		turn, err := c.hasher.Enter(ctx, hashing.Visitor{}, nil)
		if err != nil {
			return err
		}
		defer turn.Leave()
		return turn.VerifyNobody(ctx, load.Password)
	}, w))
	return w.Rate()
}

// flood completes a flood with the replicas, users and source addresses that nobody has used.
func (c *cast) flood(f load.Flood) *load.Flood {
	f.Addrs, f.First = c.addrs, c.arrived
	if f.Users == nil {
		f.Users = c.users
	}
	c.arrived += f.Clients
	return &f
}

// check makes checks from now on and counts them from begin on, for d.
func (c *cast) check(ctx context.Context, rate int, begin time.Time, d time.Duration) (*load.Work, error) {
	n, from, w := principal, &load.Supply{Requests: c.requests}, load.NewWork()
	if rate != full {
		n = 32
		from.Interval = time.Second * time.Duration(n) / time.Duration(rate)
	}
	cs, err := load.Dial(ctx, n, c.addrs...)
	if err != nil {
		return w, err
	}
	defer cs.Close()
	defer cs.Bound(ctx, time.Until(begin)+d)()
	if early := time.Until(begin); rate == full {
		load.Pause(ctx, early)
	} else if err := load.Drive(ctx, n, early, from, cs.Ask(true), load.NewWork()); err != nil {
		return w, err
	}
	return w, load.Drive(ctx, n, d, from, cs.Ask(true), w)
}

// play plays one scene.
func (c *cast) play(ctx context.Context, s scene) (report.Figures, *load.Work) {
	f := report.Figures{report.Dark: 0}
	if s.flood != nil && s.flood.Stampede {
		return f, c.stampede(ctx, s, f)
	}
	begin, length := time.Now(), c.round
	if s.flood != nil {
		begin = begin.Add(c.rest)
	}
	if s.long {
		length *= 2
	}
	scene, cancel := context.WithDeadline(ctx, begin.Add(length))
	defer cancel()
	var g errgroup.Group
	var w *load.Work
	var logins, visitors *load.Logins
	if s.rate != 0 {
		g.Go(func() (err error) { w, err = c.check(ctx, s.rate, begin, length); return err })
	}
	if s.flood != nil {
		flood := c.flood(*s.flood)
		g.Go(func() (err error) { logins, err = flood.Run(scene, begin); return err })
	}
	if s.visitors {
		visit := c.flood(load.Flood{
			Users: c.users[len(c.users)-report.Visitors:], Clients: report.Visitors, Once: true,
			Spacing: length * 3 / 4 / report.Visitors, // the last ones have time to be answered
		})
		g.Go(func() (err error) { visitors, err = visit.Run(scene, begin); return err })
	}
	g.Go(func() error { f[report.Dark] = c.watch(scene); return nil })
	must.Do(g.Wait())
	c.record(f, w, logins)
	if w != nil {
		f[report.Rate] = float64(w.Latencies.TotalCount()) / length.Seconds()
	}
	if visitors != nil {
		f[report.Prompt] = float64(visitors.Prompt)
	}
	return f, w
}

func (c *cast) record(f report.Figures, w *load.Work, l *load.Logins) {
	if w != nil {
		f[report.CheckP50], f[report.CheckP99] = load.Millis(w.Percentile(50)), load.Millis(w.Percentile(99))
	}
	if l != nil {
		f[report.SignedIn], f[report.LoginRate], f[report.Unanswered] = float64(l.SignedIn), l.Rate, float64(l.Unanswered)
		f[report.Shed], f[report.Limited], f[report.Refused] = float64(l.Shed), float64(l.Limited), float64(l.Refused())
		f[report.Longest], f[report.LongestRefusal] = load.Millis(l.Longest), load.Millis(l.LongestRefuse)
	}
	for _, p := range c.services {
		f[report.ResidentMB] = max(f[report.ResidentMB], probe.FamilyMemory(p.PID()))
	}
}

// watch counts how often a replica does not say that it lives.
func (c *cast) watch(ctx context.Context) (dark float64) {
	for ctx.Err() == nil {
		load.Pause(ctx, 100*time.Millisecond)
		for _, p := range c.services {
			if p.Get("/livez") == "" && ctx.Err() == nil {
				dark++
			}
		}
	}
	return dark
}

// stampede has everybody come at the same moment, once, and measures how long it takes until others
// can log in as if nothing had happened.
func (c *cast) stampede(ctx context.Context, s scene, f report.Figures) *load.Work {
	patient, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c.record(f, nil, must.Get(c.flood(*s.flood).Run(patient, time.Now())))
	over := time.Now()
	for ctx.Err() == nil {
		l := must.Get(c.flood(load.Flood{Clients: 1, Once: true, Spacing: 1}).Run(ctx, over))
		if l.SignedIn == 1 && l.Refused() == 0 && l.Longest <= time.Second {
			break
		}
	}
	f[report.Recovery] = load.Millis(time.Since(over))
	w := must.Get(c.check(ctx, steady, time.Now(), c.rest))
	f[report.CheckP50], f[report.CheckP99] = load.Millis(w.Percentile(50)), load.Millis(w.Percentile(99))
	if c.services[0].Get("/livez") == "" {
		f[report.Dark]++
	}
	return w
}
