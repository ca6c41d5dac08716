package main

import (
	"context"
	"os"
	"runtime"
	"time"

	"github.com/sessiond/sessiond/session"
)

// contender is one of those that take turns.
type contender struct {
	name string
	load func(ctx context.Context, d time.Duration, from *supply) (work, error)
	cpu  func() (time.Duration, error) // of the process that answers; nil: none of ours
	// within: it answers in this process.
	within bool
	// blind: it looks at no token, so one that was used is as good as a new one.
	blind bool
	// whole: its rounds cannot be cut into passes.
	whole bool
	close func() // when it has had its last turn; nil: nothing to do
	// own is what it is asked; nil: the same as the others.
	own []request
}

// served is a contender behind HTTP, asked over n connections. They are made in
// its first turn, because the service closes one that says nothing at first, and
// kept for the others.
func served(name string, p *process, n int, named bool) contender {
	var cs clients
	return contender{
		name: name, cpu: p.cpu,
		load: func(ctx context.Context, d time.Duration, from *supply) (w work, err error) {
			if cs == nil {
				if cs, err = dialAll(ctx, p.addr, n); err != nil {
					return w, err
				}
			}
			defer cs.bound(ctx, d)()
			return drive(ctx, n, d, from, overHTTP(cs, named))
		},
		close: func() { cs.close() },
	}
}

// sample is what one turn gave. Times on a CPU are milliseconds for 1,000
// checks, which is microseconds for one. 0: not told.
type sample struct {
	Checks   int     `json:"checks"`
	Rate     float64 `json:"checks_per_second"`
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	CPU      float64 `json:"cpu_ms_per_1000,omitempty"`
	RedisCPU float64 `json:"redis_cpu_ms_per_1000"`
	// RedisReads is how often Redis had something to read, for each check: a
	// round trip is one, and so is a pipeline of any length.
	RedisReads float64 `json:"redis_reads_per_check"`
	// LoadCPU is what asking took, and the verifier itself where it is in this process.
	LoadCPU float64 `json:"load_cpu_ms_per_1000"`
}

// The figures of a sample.
func rate(s *sample) float64       { return s.Rate }
func p50(s *sample) float64        { return s.P50 }
func p99(s *sample) float64        { return s.P99 }
func cpu(s *sample) float64        { return s.CPU }
func redisCPU(s *sample) float64   { return s.RedisCPU }
func redisReads(s *sample) float64 { return s.RedisReads }

// row is one contender in one setting.
type row struct {
	Name   string   `json:"name"`
	Rounds []sample `json:"rounds"`
	Median sample   `json:"median"` // of each figure by itself
	// Against is the ratio of its rate to that of others, of the same round each.
	Against map[string]spread `json:"rate_against,omitempty"`
}

func (r *row) figures(of func(*sample) float64) []float64 {
	v := make([]float64, len(r.Rounds))
	for i := range r.Rounds {
		v[i] = of(&r.Rounds[i])
	}
	return v
}

func (r *row) summarize() {
	r.Median = sample{
		Rate: median(r.figures(rate)), P50: median(r.figures(p50)), P99: median(r.figures(p99)),
		CPU: median(r.figures(cpu)), RedisCPU: median(r.figures(redisCPU)), RedisReads: median(r.figures(redisReads)),
		LoadCPU: median(r.figures(func(s *sample) float64 { return s.LoadCPU })),
	}
	for i := range r.Rounds {
		r.Median.Checks += r.Rounds[i].Checks
	}
	r.Median.Checks /= len(r.Rounds)
}

// Where the tokens of a setting come from.
const (
	warm  = "warm" // a set that goes round, seen before
	fresh = "new"  // each for the first time
)

// setting is one table of the result.
type setting struct {
	Name    string   `json:"name"`
	Callers int      `json:"callers"` // at once: connections, or goroutines
	Alg     string   `json:"algorithm,omitempty"`
	Tokens  string   `json:"tokens"`
	Against []string `json:"against"` // whom the others are compared to
	Rows    []row    `json:"rows"`
	fine    bool     // see finePasses
}

func (t *setting) row(name string) *row {
	for i := range t.Rows {
		if t.Rows[i].Name == name {
			return &t.Rows[i]
		}
	}
	return nil
}

// ratio is that of a figure of two contenders, round by round; ok is false
// when one of them was not there.
func (t *setting) ratio(of func(*sample) float64, name, to string) (spread, bool) {
	a, b := t.row(name), t.row(to)
	if a == nil || b == nil {
		return spread{}, false
	}
	return spreadOf(ratios(a.figures(of), b.figures(of))), true
}

// guess is the rate for which the first new tokens are made.
const guess = 5_000

// passes is into how many a round is cut. The contenders take turns within it, so
// that a machine that becomes slower for a while does so for all of them.
const passes = 5

// For contenders that differ by little, with few callers. Where the kernel puts those
// who wait for each other, on one core or on two, makes their wait three times as long,
// and changes every few milliseconds. A pass is too short then to read clocks in it.
const (
	finePasses = 500
	fineRounds = 3 // for each of the usual ones
)

// interleave has the contenders take turns, in every pass of every round, another
// one first each time, and adds up what they did in a round. One that warms them up
// comes before and does not count. refs are the sessions that they are asked for, but
// for those contenders that have requests of their own.
func (s *stage) interleave(ctx context.Context, r *report, t setting, refs []session.Ref, contenders []contender) (setting, error) {
	k := s.keys[t.Alg]
	rounds, passes := s.Rounds, passes
	if t.fine {
		rounds, passes = fineRounds*rounds, finePasses
	}
	t.Rows = make([]row, len(contenders))
	for i, c := range contenders {
		t.Rows[i].Name = c.name
		if c.close != nil {
			defer c.close()
		}
	}
	var requests []request
	fastest := float64(guess)
	for round := -1; round < rounds; round++ {
		if round < 0 {
			s.say("%s: warming up", t.Name)
		} else {
			s.say("%s: round %d of %d", t.Name, round+1, rounds)
		}
		if len(refs) > 0 && (t.Tokens == fresh || requests == nil) {
			n := len(refs)
			if t.Tokens == fresh {
				n = int(1.5*fastest*s.Round.Seconds()) + t.Callers
			}
			var err error
			if requests, err = k.mintAll(ctx, refs, n); err != nil {
				return t, err
			}
		}
		turns := make([]turn, len(contenders))
		for i, c := range contenders {
			turns[i] = turn{contender: c, fine: t.fine, from: &supply{requests: requests, once: t.Tokens == fresh && !c.blind}}
			if c.own != nil {
				turns[i].from.requests = c.own
			}
		}
		for pass := range passes {
			for n := range turns {
				if err := s.play(ctx, r, &turns[(n+pass+round+1)%len(turns)], pass); err != nil {
					return t, err
				}
			}
		}
		for i := range turns {
			one := turns[i].sample()
			if round >= 0 {
				t.Rows[i].Rounds = append(t.Rows[i].Rounds, one)
			}
			if !contenders[i].blind {
				fastest = max(fastest, one.Rate)
			}
		}
	}
	for i := range t.Rows {
		t.Rows[i].summarize()
	}
	return t.withRatios(), nil
}

// withRatios compares every row to those that the setting names.
func (t setting) withRatios() setting {
	for i := range t.Rows {
		t.Rows[i].Against = map[string]spread{}
		for _, other := range t.Against {
			if against, ok := t.ratio(rate, t.Rows[i].Name, other); ok {
				t.Rows[i].Against[other] = against
			}
		}
	}
	return t
}

// turn is what a contender does in a round, pass by pass.
type turn struct {
	contender
	fine   bool
	from   *supply
	work   work
	spent  clocks
	passes int
}

// play has a contender work for a pass of its round.
func (s *stage) play(ctx context.Context, r *report, t *turn, pass int) error {
	d := s.Round / passes
	switch {
	case t.fine:
		w, err := t.load(ctx, s.Round/finePasses, t.from)
		r.complain(t.name, &w)
		t.work.add(w)
		return err
	case t.whole && pass > 0:
		return nil
	case t.whole:
		d = s.Round
	}
	runtime.GC() // what made the tokens must not be swept on the contender's time
	before, err := s.readClocks(ctx, &t.contender)
	if err != nil {
		return err
	}
	w, err := t.load(ctx, d, t.from)
	if err != nil {
		return err
	}
	after, err := s.readClocks(ctx, &t.contender)
	if err != nil {
		return err
	}
	r.complain(t.name, &w)
	spent := after.less(before)
	r.Others.add(spent)
	t.work.add(w)
	t.spent = t.spent.plus(spent)
	t.passes++
	return nil
}

func (t *turn) sample() sample {
	w, checks := &t.work, float64(max(t.work.checks, 1))
	if len(w.waits) > 0 {
		w.sort(w.waits)
	}
	one := sample{
		Checks: w.checks, Rate: float64(w.checks) / w.took.Seconds(), P50: micros(w.p50), P99: micros(w.p99),
		CPU: micros(t.spent.process) / checks, RedisCPU: micros(t.spent.redis.cpu) / checks,
		RedisReads: float64(t.spent.redis.reads-int64(t.passes)) / checks, // one of each pass is our own
		LoadCPU:    micros(t.spent.self) / checks,
	}
	if t.within {
		one.CPU = one.LoadCPU
	}
	return one
}

// clocks are read before and after a turn.
type clocks struct {
	wall    time.Duration
	machine time.Duration // on all CPUs, by everybody
	self    time.Duration // by us, and by programs that we ran and that have ended
	process time.Duration // by the contender's process
	redis   redisMeter
}

func (s *stage) readClocks(ctx context.Context, c *contender) (k clocks, err error) {
	if k.redis, err = readRedis(ctx, s.space.client); err != nil {
		return k, err
	}
	if k.machine, err = machineCPU(); err != nil {
		return k, err
	}
	own, children, err := processCPU(os.Getpid())
	if err != nil {
		return k, err
	}
	k.self = own + children
	if c.cpu != nil {
		k.process, err = c.cpu()
	}
	k.wall = time.Since(s.began)
	return k, err
}

func (k clocks) less(o clocks) clocks {
	return clocks{
		wall: k.wall - o.wall, machine: k.machine - o.machine, self: k.self - o.self, process: k.process - o.process,
		redis: redisMeter{cpu: k.redis.cpu - o.redis.cpu, reads: k.redis.reads - o.redis.reads},
	}
}

func (k clocks) plus(o clocks) clocks { return k.less(clocks{}.less(o)) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
