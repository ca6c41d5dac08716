package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
)

// storming is what storm finds for one way of running the service: what a flood
// of logins does to checks, and checks to logins.
type storming struct {
	Name   string  `json:"name"`
	Scenes []scene `json:"scenes"`
}

// scene is what was seen of one sort of weather, round by round.
type scene struct {
	Name   string    `json:"name"`
	Rounds []weather `json:"rounds"`
}

// weather is what one turn of a scene gave.
type weather struct {
	P50    float64 `json:"check_p50_ms"`
	P99    float64 `json:"check_p99_ms"`
	Rate   float64 `json:"checks_per_second"`
	Logins *logins `json:"logins,omitempty"`
	Others *logins `json:"logins_of_others,omitempty"`
	// Limit is how many logins a second bcrypt allows, measured before and after.
	Limit float64 `json:"bcrypt_limit"`
	Share float64 `json:"logins_to_bcrypt_limit"`
	// Back is how long after a stampede somebody else could sign in within normal.
	Back     float64 `json:"back_to_normal_ms,omitempty"`
	Resident float64 `json:"resident_mb"` // of one replica with its process that hashes, the largest
	Dark     int     `json:"livez_failed"`

	checks []time.Duration // sorted
}

// The scenes, in the order in which they take turns.
const (
	calm      = "no flood"
	flooded   = "64 clients, one login after another"
	calmAgain = "no flood, again"
	unchecked = "the same without checks"
	crowded   = "1,000 clients that come back when told to"
	mobbed    = "64 clients that come back at once"
	full      = "checks at full speed"
	fullFlood = "the same beside 16 flooders"
	stampeded = "10,000 at once"
)

// plan says what happens in a scene.
type plan struct {
	name     string
	steady   bool // checks at an even rate
	full     bool // checks as fast as they are answered
	flood    *flood
	long     bool // it lasts twice as long
	visitors int  // people at addresses of their own, who sign in meanwhile, once each
	stampede bool // the flood is all there is, and ends by itself
}

const (
	steadyRate = 500 // checks a second
	visitors   = 100
	// longestBreak is how long at most a flood has to build up before anything
	// counts, and to go away before the next scene.
	longestBreak = 3 * time.Second
	// normal is how long a login may take when nothing is wrong.
	normal = time.Second
)

// rest is the time between what is measured.
func (c *config) rest() time.Duration { return min(longestBreak, c.Round) }

func (c *config) plans() []plan {
	return []plan{
		{name: calm, steady: true},
		{name: flooded, steady: true, flood: &flood{clients: 64}},
		{name: calmAgain, steady: true},
		{name: unchecked, flood: &flood{clients: 64}},
		{name: crowded, steady: true, flood: &flood{clients: c.Crowded}},
		{name: mobbed, steady: true, flood: &flood{clients: 64, addresses: 16, rude: true}, long: true, visitors: visitors},
		{name: full, full: true},
		{name: fullFlood, full: true, flood: &flood{clients: 16}},
		{name: stampeded, stampede: true, flood: &flood{clients: c.Stampede, once: true}},
	}
}

// deployment is a way of running the service.
type deployment struct {
	flag     string // its name in --deployments
	name     string
	replicas int
	cores    float64 // of CPU time for all of it; 0: all there are
}

func deployments() []deployment {
	return []deployment{
		{flag: "one", name: "one replica", replicas: 1},
		{flag: "three", name: "three replicas", replicas: 3},
		{flag: "limited", name: "one replica in a control group that may use 1 core", replicas: 1, cores: 1},
	}
}

// part is what the deployment may use of all cores.
func (d deployment) part() float64 {
	if d.cores == 0 {
		return 1
	}
	return d.cores / float64(runtime.NumCPU())
}

// storm floods the service with logins beside checks.
func storm(ctx context.Context, s *stage, r *report) error {
	for _, d := range deployments() {
		if !slices.Contains(s.Deployments, d.flag) {
			continue
		}
		if err := s.scope(func(s *stage) error { return s.storm(ctx, r, d) }); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return nil
}

func (s *stage) storm(ctx context.Context, r *report, d deployment) error {
	var wrap []string
	if d.cores > 0 {
		group, err := s.limitCPU(d.cores)
		if errors.Is(err, errNoGroups) {
			s.say("LEFT OUT: %s: %v", d.name, err)
			return nil
		} else if err != nil {
			return err
		}
		wrap = group
	}
	requests, err := s.liveSessions(ctx)
	if err != nil {
		return err
	}
	users, err := s.people(ctx, 2000)
	if err != nil {
		return err
	}
	cast := &cast{stage: s, requests: requests, users: users}
	for range d.replicas {
		p, err := s.startWrapped(ctx, wrap, s.space.url, s.space.prefix, "SESSIOND_TRUSTED_PROXIES=127.0.0.0/8")
		if err != nil {
			return err
		}
		s.later(p.stop)
		cast.services = append(cast.services, p)
	}
	// One thread is enough to ask, and takes less from those who answer.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	// What Redis does not know yet is no part of this.
	warm, cancel := context.WithTimeout(ctx, s.rest())
	defer cancel()
	if _, err := (&steady{cast.addrs(), requests, steadyRate}).run(warm, time.Now()); err != nil {
		return err
	}
	st := storming{Name: d.name}
	for _, p := range s.plans() {
		st.Scenes = append(st.Scenes, scene{Name: p.name})
	}
	for round := range s.Rounds {
		limit, err := s.bcryptLimit(ctx)
		if err != nil {
			return err
		}
		s.say("%s, round %d of %d: bcrypt allows %.1f logins a second", d.name, round+1, s.Rounds, limit*d.part())
		for i, p := range s.plans() {
			w, err := cast.play(ctx, p)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			pause(ctx, s.rest())
			before := limit
			if limit, err = s.bcryptLimit(ctx); err != nil {
				return err
			}
			w.Limit = (before + limit) / 2 * d.part()
			if w.Logins != nil {
				w.Share = w.Logins.Rate / w.Limit
			}
			s.say("  %s: check p99 %.1f ms, %.0f checks/s; %s, of %.1f", p.name, w.P99, w.Rate, w.Logins, w.Limit)
			st.Scenes[i].Rounds = append(st.Scenes[i].Rounds, w)
		}
	}
	r.Storms = append(r.Storms, st)
	return ctx.Err()
}

// liveSessions are sessions that are in force, and asked for in turn.
func (s *stage) liveSessions(ctx context.Context) ([]request, error) {
	requests, _, err := s.realSessions(ctx)
	return slices.DeleteFunc(requests, func(r request) bool { return r.revoked }), err
}

// cast are who takes part in the scenes.
type cast struct {
	*stage
	services []*process
	requests []request
	users    []identity.User
	arrived  int // addresses that were used, so that nobody pays for an earlier scene
}

func (c *cast) addrs() (addrs []string) {
	for _, p := range c.services {
		addrs = append(addrs, p.addr)
	}
	return addrs
}

// newcomers returns the first of n addresses that nobody has come from.
func (c *cast) newcomers(n int) int {
	first := c.arrived
	c.arrived += n
	return first
}

// play plays one scene.
func (c *cast) play(ctx context.Context, p plan) (w weather, err error) {
	if p.stampede {
		return c.stampede(ctx, p)
	}
	begin := time.Now()
	if p.flood != nil {
		begin = begin.Add(c.rest())
	}
	length := c.Round
	if p.long {
		length *= 2
	}
	scene, cancel := context.WithDeadline(ctx, begin.Add(length))
	defer cancel()
	var g errgroup.Group
	if p.steady {
		g.Go(func() (err error) {
			w.checks, err = (&steady{c.addrs(), c.requests, steadyRate}).run(scene, begin)
			return err
		})
	}
	if p.full {
		g.Go(func() (err error) {
			w.checks, err = c.fullSpeed(scene, begin)
			return err
		})
	}
	if p.flood != nil {
		f := *p.flood
		f.addrs, f.users, f.first = c.addrs(), c.users, c.newcomers(f.clients)
		g.Go(func() (err error) {
			w.Logins, err = f.run(scene, begin)
			return err
		})
	}
	if p.visitors > 0 {
		g.Go(func() (err error) {
			w.Others, err = c.visit(scene, p.visitors, begin, length)
			return err
		})
	}
	g.Go(func() error {
		w.Dark = c.watch(scene)
		return nil
	})
	if err := g.Wait(); err != nil {
		return w, err
	}
	w.P50, w.P99 = millis(percentile(w.checks, 50)), millis(percentile(w.checks, 99))
	w.Rate = float64(len(w.checks)) / length.Seconds()
	w.Resident, err = c.resident()
	return w, err
}

// fullSpeed asks over 64 connections, each one check after another.
func (c *cast) fullSpeed(ctx context.Context, begin time.Time) ([]time.Duration, error) {
	var cs clients
	defer func() { cs.close() }()
	for i := range principal {
		one, err := dial(ctx, c.services[i%len(c.services)].addr)
		if err != nil {
			return nil, err
		}
		cs = append(cs, one)
	}
	end, _ := ctx.Deadline()
	pause(ctx, time.Until(begin))
	ctx = context.WithoutCancel(ctx) // the last answers come when it is over
	defer cs.bound(ctx, c.Round)()
	got, err := drive(ctx, principal, time.Until(end), &supply{requests: c.requests}, overHTTP(cs, true))
	return got.waits, err
}

// visit has people sign in at even times, each at an address and an account of
// their own.
func (c *cast) visit(ctx context.Context, n int, begin time.Time, length time.Duration) (*logins, error) {
	all := &logins{}
	first := c.newcomers(n)
	var g errgroup.Group
	each := make([]*logins, n)
	interval := length * 3 / 4 / time.Duration(n) // the last have time to be answered
	for i := range n {
		g.Go(func() (err error) {
			pause(ctx, time.Until(begin.Add(time.Duration(i)*interval)))
			at := i % len(c.services)
			one := flood{addrs: c.addrs()[at : at+1], users: c.users[len(c.users)-1-i:], clients: 1, first: first + i, once: true, prompt: true}
			each[i], err = one.run(ctx, begin)
			return err
		})
	}
	err := g.Wait()
	for _, l := range each {
		if l != nil {
			all.add(l)
		}
	}
	return all, err
}

// watch counts how often a replica does not say that it lives.
func (c *cast) watch(ctx context.Context) (dark int) {
	for ctx.Err() == nil {
		pause(ctx, 100*time.Millisecond)
		for _, addr := range c.addrs() {
			if _, err := get(ctx, "http://"+addr+"/livez"); err != nil && ctx.Err() == nil {
				dark++
			}
		}
	}
	return dark
}

func (c *cast) resident() (most float64, err error) {
	for _, p := range c.services {
		bytes, err := familyMemory(p.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		most = max(most, float64(bytes)/1e6)
	}
	return most, nil
}

// stampede has everybody come at the same moment, once, and measures how long it
// takes until others can sign in as if nothing had been.
func (c *cast) stampede(ctx context.Context, p plan) (w weather, err error) {
	f := *p.flood
	f.addrs, f.users, f.first = c.addrs(), c.users, c.newcomers(f.clients)
	if w.Logins, err = f.stampede(ctx); err != nil {
		return w, err
	}
	if w.Resident, err = c.resident(); err != nil {
		return w, err
	}
	over := time.Now()
	for ctx.Err() == nil {
		one := flood{addrs: c.addrs(), users: c.users, clients: 1, first: c.newcomers(1), once: true, prompt: true}
		l, err := one.run(ctx, over)
		if err != nil {
			return w, err
		}
		if l.SignedIn == 1 && l.Shed+l.Limited == 0 && l.Longest <= millis(normal) {
			break
		}
	}
	w.Back = millis(time.Since(over))
	begin := time.Now()
	after, cancel := context.WithDeadline(ctx, begin.Add(c.rest()))
	defer cancel()
	if w.checks, err = (&steady{c.addrs(), c.requests, steadyRate}).run(after, begin); err != nil {
		return w, err
	}
	w.P50, w.P99 = millis(percentile(w.checks, 50)), millis(percentile(w.checks, 99))
	if _, err := get(ctx, "http://"+c.addrs()[0]+"/livez"); err != nil {
		w.Dark++
	}
	return w, nil
}

// bcryptLimit is how many hashes a second all cores make that do nothing else.
func (s *stage) bcryptLimit(ctx context.Context) (float64, error) {
	hasher, err := hashing.NewHasher(loginCost, nil)
	if err != nil {
		return 0, err
	}
	cores := runtime.NumCPU()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	w, err := drive(ctx, cores, s.Round/4, &supply{requests: make([]request, 1)}, func(ctx context.Context, _ int, _ *request) error {
		turn, err := hasher.Enter(ctx, hashing.Visitor{}, nil)
		if err != nil {
			return err
		}
		defer turn.Leave()
		return turn.VerifyNobody(ctx, loginPassword)
	})
	return float64(w.checks) / w.took.Seconds(), err
}

var errStranger = errors.New("an answer to a login that is none of 201, 429 and 503")

// outcome counts an answer to a login.
func (l *logins) outcome(a answer, took time.Duration) error {
	l.Longest = max(l.Longest, millis(took))
	switch a.status {
	case http.StatusCreated:
		l.SignedIn++
		l.waits = append(l.waits, took)
		return nil
	case http.StatusServiceUnavailable:
		l.Shed++
	case http.StatusTooManyRequests:
		l.Limited++
	default:
		return fmt.Errorf("%w: %d", errStranger, a.status)
	}
	l.LongestShed = max(l.LongestShed, millis(took))
	return nil
}
