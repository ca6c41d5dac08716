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

// scene is one kind of load on sessiond: token checks, logins, or both.
type scene struct {
	name     string
	checks   int // token checks per second; 0: no checks; full: as many as sessiond answers
	flood    load.Flood
	visitors bool // more users, report.Visitors in number, log in from different addresses; the scene lasts twice as long
}

const steady, full = 500, -1 // values of scene.checks: 500 checks per second, or as many as sessiond answers

func (c *config) scenes() []scene {
	return []scene{
		{name: report.Calm, checks: steady},
		{name: report.Flooded, checks: steady, flood: load.Flood{Clients: 64}},
		{name: report.CalmAgain, checks: steady},
		{name: report.Unchecked, flood: load.Flood{Clients: 64}},
		{name: report.Crowded, checks: steady, flood: load.Flood{Clients: c.Crowd}},
		{name: report.Rude, checks: steady, flood: load.Flood{Clients: 64, Addresses: 16, Rude: true}, visitors: true},
		{name: report.Full, checks: full},
		{name: report.FullFlood, checks: full, flood: load.Flood{Clients: 16}},
		{name: report.Stampede, flood: load.Flood{Clients: c.Stampede, Stampede: true}},
	}
}

// storm measures checks and logins while each deployment of sessiond is flooded with logins.
func (b *bench) storm(ctx context.Context) {
	for _, deployment := range b.Deployments {
		b.Scope(func() {
			switch deployment {
			case "one":
				b.deploy(ctx, "one replica", 1, 1, nil)
			case "three":
				b.deploy(ctx, "three replicas", 3, 1, nil)
			case "limited":
				const name, cores = "one replica in a control group that may use 1 core", 1.0
				if wrap, err := b.LimitCPU(cores); err == nil {
					b.deploy(ctx, name, 1, cores/float64(runtime.NumCPU()), wrap)
				} else {
					b.Say("NOT MEASURED: %s: cannot create the control group: %v", name, err)
				}
			}
		})
	}
}

// cast holds the sessiond replicas, sessions and users that all scenes of a deployment share.
type cast struct {
	*bench
	services []*stage.Process
	addrs    []string // addresses of the replicas in services
	requests []load.Request
	users    []string
	hasher   *hashing.Hasher
	arrived  int // number of client addresses used so far; a scene needs new addresses, because sessiond remembers the old ones
	round    time.Duration
	rest     time.Duration // time to wait while a flood of logins builds up before the measurement, and while it ends afterwards
}

// deploy runs all scenes on one deployment of sessiond. The parameter wrap limits its CPU time, and
// share is the fraction of the machine's CPU time that it may use.
func (b *bench) deploy(ctx context.Context, name string, replicas int, share float64, wrap []string) {
	rounds, length := b.rounds(3, 10*time.Second) // rounds of 1 s would be too short, because a login in a flood takes seconds
	const bcryptCost = 10                         // sessiond's default
	c := &cast{bench: b, round: length, rest: min(3*time.Second, length), hasher: must.Get(hashing.NewHasher(bcryptCost, nil))}
	sp := b.Claim(ctx)
	requests, _ := b.SignIn(ctx, sp, b.Sessions)
	c.requests = slices.DeleteFunc(requests, func(r load.Request) bool { return r.Revoked })
	c.users = b.People(ctx, must.Get(c.hasher.Hash(ctx, load.Password)), max(2*b.Crowd, 2*report.Visitors))
	for range replicas {
		p := b.Service(ctx, b.Latest, sp.URL, wrap, "SESSIOND_TRUSTED_PROXIES=127.0.0.0/8")
		c.services, c.addrs = append(c.services, p), append(c.addrs, p.Addr)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one thread is enough for the load generator and leaves more CPU time to sessiond
	c.check(ctx, steady, time.Now(), c.rest)        // these checks bring the sessions into Redis before the first measurement
	t := report.Table{Part: report.Storm, Name: name, Round: length, Turn: length, Rows: make([]report.Row, len(b.scenes()))}
	for n := range rounds {
		limit, calm := c.bcryptLimit(ctx)*share, load.NewWork()
		for i, s := range b.scenes() {
			f := report.Figures{report.Dark: 0, report.BcryptLimit: limit / 2}
			if w := c.play(ctx, s, f); s.name == report.Calm || s.name == report.CalmAgain {
				calm.Latencies.Merge(w.Latencies)
			}
			load.Pause(ctx, c.rest)
			limit = c.bcryptLimit(ctx) * share
			f[report.BcryptLimit] += limit / 2
			if rate, ok := f[report.LoginRate]; ok {
				f[report.LoginShare] = rate / f[report.BcryptLimit]
			}
			b.Say("%s, round %d of %d, %s: check p99 %.1f ms; %.1f logins/s of %.1f, %.0f refused", name, n+1, rounds, s.name,
				f[report.CheckP99], f[report.LoginRate], f[report.BcryptLimit], f[report.Refused])
			t.Rows[i].Name, t.Rows[i].Rounds = s.name, append(t.Rows[i].Rounds, f)
		}
		for i, s := range b.scenes() {
			if f := t.Rows[i].Rounds[n]; f[report.CheckP99] > 0 && s.checks != full {
				f[report.ToCalm] = f[report.CheckP99] / load.Millis(calm.Percentile(99))
			}
		}
	}
	b.report.Tables = append(b.report.Tables, t)
}

// bcryptLimit measures how many passwords per second all cores can verify if they do nothing else.
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

// flood returns a function that runs the flood f from client addresses that no other scene uses.
func (c *cast) flood(f load.Flood) func(ctx context.Context, begin time.Time) (*load.Logins, error) {
	f.Addrs, f.First = c.addrs, c.arrived
	if f.Users == nil {
		f.Users = c.users
	}
	c.arrived += f.Clients
	return f.Run
}

// check sends token checks at the given rate until begin+d. Checks before begin are not counted.
func (c *cast) check(ctx context.Context, rate int, begin time.Time, d time.Duration) *load.Work {
	n, from, w := principal, &load.Supply{Requests: c.requests}, load.NewWork()
	if rate != full {
		n = 32
		from.Interval = time.Second * time.Duration(n) / time.Duration(rate)
	}
	cs := must.Get(load.Dial(ctx, n, c.addrs...))
	defer cs.Close()
	defer cs.Bound(ctx, time.Until(begin)+d)()
	if early := time.Until(begin); rate == full {
		load.Pause(ctx, early)
	} else {
		must.Do(load.Drive(ctx, n, early, from, cs.Ask(true), load.NewWork()))
	}
	must.Do(load.Drive(ctx, n, d, from, cs.Ask(true), w))
	c.report.Complain("storm", w.Wrong, w.Complaint)
	return w
}

// play runs one scene and writes its figures to f. It returns the results of the token checks, or
// nil if the scene has no token checks.
func (c *cast) play(ctx context.Context, s scene, f report.Figures) (w *load.Work) {
	if s.flood.Stampede {
		return c.stampede(ctx, s, f)
	}
	begin, length := time.Now(), c.round
	if s.flood.Clients > 0 {
		begin = begin.Add(c.rest)
	}
	if s.visitors {
		length *= 2
	}
	scene, cancel := context.WithDeadline(ctx, begin.Add(length))
	defer cancel()
	var g errgroup.Group
	logins, visitors := &load.Logins{}, &load.Logins{}
	if run := c.flood(s.flood); s.flood.Clients > 0 {
		g.Go(func() (err error) { logins, err = run(scene, begin); return err })
	}
	if s.visitors {
		run := c.flood(load.Flood{
			Users: c.users[len(c.users)-report.Visitors:], Clients: report.Visitors, Once: true,
			Spacing: length * 3 / 4 / report.Visitors, // no visitor starts in the last quarter of the scene, because each may need time to sign in
		})
		g.Go(func() (err error) { visitors, err = run(scene, begin); return err })
	}
	g.Go(func() error { f[report.Dark] = c.watch(scene); return nil })
	if s.checks != 0 {
		w = c.check(ctx, s.checks, begin, length)
	}
	must.Do(g.Wait())
	if s.visitors {
		f[report.Prompt] = float64(visitors.Prompt)
	}
	c.record(f, w, logins)
	return w
}

func (c *cast) record(f report.Figures, w *load.Work, l *load.Logins) {
	if w != nil {
		f[report.CheckP50], f[report.CheckP99], f[report.Rate] = load.Millis(w.Percentile(50)), load.Millis(w.Percentile(99)), w.Rate()
	}
	if l.SignedIn+l.Shed+l.Limited+l.Unanswered > 0 {
		f[report.SignedIn], f[report.LoginRate], f[report.Unanswered] = float64(l.SignedIn), l.Rate, float64(l.Unanswered)
		f[report.Shed], f[report.Limited], f[report.Refused] = float64(l.Shed), float64(l.Limited), float64(l.Shed+l.Limited)
		f[report.Longest], f[report.LongestRefusal] = load.Millis(l.Longest), load.Millis(l.LongestRefusal)
	}
	for _, p := range c.services {
		f[report.ResidentMB] = max(f[report.ResidentMB], probe.FamilyMemory(p.PID))
	}
}

// watch requests /livez from every replica until ctx ends, and returns the number of failures.
func (c *cast) watch(ctx context.Context) (dark float64) {
	for ctx.Err() == nil {
		load.Pause(ctx, 100*time.Millisecond)
		for _, addr := range c.addrs {
			if stage.Get(addr, "/livez") == "" && ctx.Err() == nil {
				dark++
			}
		}
	}
	return dark
}

// stampede sends the logins of all clients at the same moment. It then measures the time until a
// single login succeeds within 1 s again.
func (c *cast) stampede(ctx context.Context, s scene, f report.Figures) *load.Work {
	patient, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c.record(f, nil, must.Get(c.flood(s.flood)(patient, time.Now())))
	over := time.Now()
	for normal := false; !normal && ctx.Err() == nil; {
		l := must.Get(c.flood(load.Flood{Clients: 1, Once: true, Spacing: 1})(ctx, over))
		normal = l.SignedIn == 1 && l.Shed+l.Limited == 0 && l.Longest <= time.Second
	}
	f[report.Recovery] = load.Millis(time.Since(over))
	w := c.check(ctx, steady, time.Now(), c.rest)
	c.record(f, w, &load.Logins{})
	if stage.Get(c.addrs[0], "/livez") == "" {
		f[report.Dark]++
	}
	return w
}
