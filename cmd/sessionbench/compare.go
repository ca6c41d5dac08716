package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing" //nolint:depguard // for testing.AllocsPerRun, which counts memory allocations
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
)

// compare measures the baseline servers, each build of sessiond, and a verifier without HTTP.
func (b *bench) compare(ctx context.Context) {
	sp, refs := b.populate(ctx, b.Sessions, false)
	sp.FillPlain(ctx, refs)
	batched, unbatched, unbatchedAgain := b.verifying(sp, false), b.verifying(sp, true), b.verifying(sp, true)
	names, servers := []string{report.Empty, report.Plain}, []*stage.Process{b.Baseline(ctx, report.Empty, sp.URL), b.Baseline(ctx, report.Plain, sp.URL)}
	against := slices.Clone(names)
	for _, build := range b.Builds {
		b.report.Service = strings.TrimSpace(report.Verify + " " + build.Name)
		names, servers = append(names, b.report.Service), append(servers, b.Service(ctx, build, sp.URL, nil))
	}
	if len(b.Builds) > 1 {
		against = append(against, names[2])
		names, servers = append(names, again(names[2])), append(servers, b.Service(ctx, b.Builds[0], sp.URL, nil))
	}
	latest := servers[1+len(b.Builds)]
	names, servers = append(names, again(report.Empty)), append(servers, b.Baseline(ctx, report.Empty, sp.URL))
	middle := b.Connections[len(b.Connections)/2]
	table := func(alg, tokens string, n int, withoutHTTP bool) {
		var contenders []contender
		for i, name := range names {
			contenders = append(contenders, b.served(name, servers[i], servers[i].Addr, n))
		}
		if stage.Get(latest.Check, "/livez") == "" {
			b.Say("NOT MEASURED: %s, %s: the last build has no listeners for gateways", report.CheckPort, report.ExtAuthz)
		} else {
			contenders = append(contenders, b.served(report.CheckPort, latest, latest.Check, n), b.asked(report.ExtAuthz, latest, n))
		}
		if withoutHTTP {
			contenders = append(contenders, direct(report.InProcess, n, batched), direct(report.Unbatched, n, unbatched))
			if program, err := exec.LookPath("redis-benchmark"); err == nil {
				contenders = append(contenders, ceiling(program, sp))
			} else {
				b.Say("NOT MEASURED: %s: %v", report.Ceiling, err)
			}
		}
		b.takeTurns(ctx, sp, report.Table{
			Part: report.Compare, Name: fmt.Sprintf("%s, %s tokens, %s", alg, tokens, count(n, "connection")),
			Callers: n, Alg: alg, Tokens: tokens, Against: against,
		}, refs, false, contenders...)
	}
	for i, tokens := range b.Tokens {
		for j, alg := range b.Algorithms {
			first := i == 0 && j == 0 // only the first algorithm with the first kind of tokens is measured with every number of connections
			for _, n := range b.Connections {
				if first || n == middle {
					b.Scope(func() { table(alg, tokens, n, first && n == middle) })
				}
			}
		}
	}
	alg := b.Algorithms[0]
	for _, n := range []int{1, 2, principal} {
		b.takeTurns(ctx, sp, report.Table{
			Part: report.Direct, Name: fmt.Sprintf("without HTTP, %s, warm tokens, %s", alg, count(n, "goroutine")),
			Callers: n, Alg: alg, Tokens: report.Warm, Against: []string{report.Unbatched},
		}, refs, n < principal, direct(report.InProcess, n, batched), direct(report.Unbatched, n, unbatched),
			direct(again("unbatched"), n, unbatchedAgain), direct(report.GoRedis, n, b.goRedis(sp)))
	}
}

// verifying returns a load.Ask that checks tokens with a new session.Verifier, without HTTP.
func (b *bench) verifying(sp *stage.Space, unbatched bool) load.Ask {
	v, _ := b.Verifier(sp.URL, redisstore.Options{Unbatched: unbatched})
	return func(ctx context.Context, _ int, r *load.Request) error {
		claims, err := v.Verify(ctx, r.Token)
		return verdict(r, claims, err)
	}
}

// verdict returns an error that wraps load.ErrWrong if claims and err are a wrong result for r.
func verdict(r *load.Request, claims session.Claims, err error) error {
	if r.Revoked && errors.Is(err, session.ErrRevoked) || err == nil && !r.Revoked && claims.SessionID == r.Session {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("the answer names session %q; want %q (revoked: %t)", claims.SessionID, r.Session, r.Revoked)
	}
	return fmt.Errorf("%w: %w", load.ErrWrong, err)
}

// goRedis returns a load.Ask that sends Redis a token check's commands and ignores the replies.
func (b *bench) goRedis(sp *stage.Space) load.Ask {
	client := must.Get(redisstore.NewClient(sp.URL, redisstore.Options{}))
	b.Later(client.Close)
	return func(ctx context.Context, _ int, _ *load.Request) error {
		pipe := client.Pipeline()
		pipe.GetEx(ctx, stage.CeilingKeys[0], -1)
		pipe.MGet(ctx, stage.CeilingKeys...)
		pipe.Info(ctx, "replication")
		_, err := pipe.Exec(ctx)
		return err
	}
}

// ceiling returns a contender that runs the program redis-benchmark. No token check can have a higher
// rate, because redis-benchmark only reads three keys per request, over many pipelined connections.
func ceiling(program string, sp *stage.Space) contender {
	rate := 100_000.0 // requests per second; a guess in the first round, then the rate of the round before
	return contender{name: report.Ceiling, blind: true, whole: true, load: func(ctx context.Context, d time.Duration, _ *load.Supply, w *load.Work) {
		const clients, pipeline = 64, 16
		n := max(int(rate*d.Seconds()), clients*pipeline)
		args := []string{"-u", sp.URL, "--csv", "--precision", "3", "-c", strconv.Itoa(clients), "-P", strconv.Itoa(pipeline), "-n", strconv.Itoa(n), "MGET"}
		out, err := exec.CommandContext(ctx, program, append(args, stage.CeilingKeys...)...).Output() //nolint:gosec // G204: redis-benchmark, found in PATH
		must.Do(errors.Join(err, parseCeiling(string(out), n, w)))
		rate = w.Rate()
	}}
}

// parseCeiling adds the CSV output of redis-benchmark for n requests to w. The second line of out has
// the command, the rate per second, and latencies in ms: average, minimum, p50, p95, p99 and maximum.
func parseCeiling(out string, n int, w *load.Work) error {
	var command string
	var rate, average, least, p50, p95, p99 float64
	_, line, _ := strings.Cut(strings.NewReplacer(`"`, "", " ", "_", ",", " ").Replace(out), "\n")
	if _, err := fmt.Sscan(line, &command, &rate, &average, &least, &p50, &p95, &p99); err != nil || rate <= 0 {
		return fmt.Errorf("redis-benchmark: no line of figures in its output %q: %w", out, err)
	}
	w.Took = time.Duration(float64(n) / rate * float64(time.Second))
	// Record the p50 for half of the n requests and the p99 for the others. w then has both values.
	return errors.Join(w.Latencies.RecordValues(int64(p50*1e6), int64((n+1)/2)), w.Latencies.RecordValues(int64(p99*1e6), int64(n/2)))
}

const principal = 64 // number of concurrent connections or goroutines, unless a flag sets another number

// contender is one of the implementations of a token check that a table compares.
type contender struct {
	name     string
	load     func(ctx context.Context, d time.Duration, from *load.Supply, w *load.Work)
	ask      load.Ask       // checks a token inside sessionbench; nil: another program does the work
	pid      int            // process id of the server; 0: sessionbench started no server for this contender
	blind    bool           // this contender ignores the token, and therefore never needs new tokens
	whole    bool           // a round of this contender cannot be divided into shorter turns
	requests []load.Request // checks to make; nil: the checks that all contenders of the table share
}

// served returns a contender that checks tokens over n HTTP connections to an address of the server p.
// The first turn opens the connections, because sessiond closes a new connection on which no request
// comes. They are closed when the current Stage.Scope ends.
func (b *bench) served(name string, p *stage.Process, addr string, n int) contender {
	var cs load.Clients
	b.Later(func() error { cs.Close(); return nil })
	named := !strings.HasPrefix(name, report.Empty) && name != report.Plain // whether the server's answers contain the session id
	return contender{name: name, pid: p.PID, blind: strings.HasPrefix(name, report.Empty), load: func(ctx context.Context, d time.Duration, from *load.Supply, w *load.Work) {
		if cs == nil {
			cs = must.Get(load.Dial(ctx, n, addr))
		}
		defer cs.Bound(ctx, d)()
		must.Do(load.Drive(ctx, n, d, from, cs.Ask(named), w))
	}}
}

// asked returns a contender in which n callers ask as Envoy does: by gRPC, over a few connections.
func (b *bench) asked(name string, p *stage.Process, n int) contender {
	gateway := must.Get(load.DialExtAuthz(p.ExtAuthz))
	b.Later(gateway.Close)
	return contender{name: name, pid: p.PID, load: func(ctx context.Context, d time.Duration, from *load.Supply, w *load.Work) {
		must.Do(load.Drive(ctx, n, d, from, gateway.Ask, w))
	}}
}

// direct returns a contender in which n goroutines call ask, without HTTP.
func direct(name string, n int, ask load.Ask) contender {
	return contender{name: name, ask: ask, load: func(ctx context.Context, d time.Duration, from *load.Supply, w *load.Work) {
		must.Do(load.Drive(ctx, n, d, from, ask, w))
	}}
}

const (
	// coarseTurns is the number of turns into which each contender's round is divided. Contenders
	// alternate after every turn, because otherwise a slow phase of the machine would hit only one.
	coarseTurns = 5
	// fineTurns replaces coarseTurns for contenders of nearly equal speed with few callers. Turns must
	// be short then, because every few milliseconds the kernel may move threads to cores where they
	// wait up to three times as long for each other. CPU time cannot be measured in such short turns.
	fineTurns  = 500
	fineRounds = 3 // a table with fineTurns has this many times the number of rounds of the flag --rounds
)

// round holds the measurements of one contender in one round.
type round struct {
	contender
	from  *load.Supply
	work  *load.Work
	spent probe.Clocks
	turns int // number of turns in which CPU time was measured
}

// takeTurns measures the contenders in turns and adds the table t to the report. Round 0 warms the
// contenders up and is not reported. Contenders without their own requests check the sessions in refs.
func (b *bench) takeTurns(ctx context.Context, sp *stage.Space, t report.Table, refs []session.Ref, fine bool, contenders ...contender) {
	rounds, length := b.rounds(7, time.Second)
	turns := coarseTurns
	if fine {
		rounds, turns = fineRounds*rounds, fineTurns
	}
	t.Round, t.Turn = length, length/time.Duration(turns)
	for _, c := range contenders {
		t.Rows = append(t.Rows, report.Row{Name: c.name})
	}
	var requests []load.Request
	fastest := 5_000.0 // highest rate so far, in checks per second; the number of new tokens for a round follows from it
	for n := range rounds + 1 {
		b.Say("%s: round %d of %d", t.Name, n, rounds) // round 0 warms the contenders up
		if t.Tokens == report.Fresh {
			requests = b.Keys.Mint(ctx, t.Alg, refs, int(1.5*fastest*length.Seconds())+t.Callers)
		} else if requests == nil {
			requests = b.Keys.Mint(ctx, t.Alg, refs, len(refs))
		}
		all := make([]*round, len(contenders))
		for i, c := range contenders {
			all[i] = &round{contender: c, work: load.NewWork(), from: &load.Supply{Requests: requests, Once: t.Tokens == report.Fresh && !c.blind}}
			if c.requests != nil {
				all[i].from.Requests = c.requests
			}
		}
		for turn := range turns {
			for i := range all {
				one := all[(n+turn+i)%len(all)]
				switch {
				case fine:
					one.load(ctx, t.Turn, one.from, one.work)
				case !one.whole:
					b.clocked(ctx, sp, one, t.Turn)
				case turn == 0:
					b.clocked(ctx, sp, one, length)
				}
			}
		}
		for i, one := range all {
			b.report.Complain(one.name, one.work.Wrong, one.work.Complaint)
			f := one.figures()
			if fine && t.Callers == 1 {
				f[report.Allocations] = testing.AllocsPerRun(500, func() { must.Do(one.ask(ctx, 0, &one.from.Requests[0])) })
			}
			if n > 0 {
				t.Rows[i].Rounds = append(t.Rows[i].Rounds, f)
			}
			if !one.blind {
				fastest = max(fastest, f[report.Rate])
			}
		}
	}
	b.report.Tables = append(b.report.Tables, t)
}

// clocked runs one turn of a contender and measures the CPU time that it takes.
func (b *bench) clocked(ctx context.Context, sp *stage.Space, one *round, d time.Duration) {
	runtime.GC() // otherwise the garbage collector would run during the turn, because of the tokens minted before it
	before := probe.Read(ctx, sp.Client, one.pid)
	one.load(ctx, d, one.from, one.work)
	after := probe.Read(ctx, sp.Client, one.pid)
	var spent probe.Clocks
	spent.Add(before, after)
	b.report.Others.Add(spent)
	one.spent.Add(before, after)
	one.turns++
}

func (one *round) figures() report.Figures {
	w, checks := one.work, float64(max(one.work.Latencies.TotalCount(), 1))
	f := report.Figures{report.Checks: checks, report.Rate: w.Rate(), report.P50: load.Micros(w.Percentile(50)), report.P99: load.Micros(w.Percentile(99))}
	if one.turns == 0 {
		return f
	}
	f[report.RedisCPU] = load.Micros(one.spent.Redis) / checks
	f[report.Trips] = float64(one.spent.Reads-one.turns) / checks // probe.Read itself makes Redis read once per turn; subtract these reads
	f[report.LoadCPU] = load.Micros(one.spent.Self) / checks
	switch {
	case one.ask != nil:
		f[report.CPU] = f[report.LoadCPU]
	case one.pid != 0:
		f[report.CPU] = load.Micros(one.spent.Process) / checks
		f[report.ResidentMB], _ = probe.Memory(one.pid)
	}
	return f
}

// again returns the name of the row that measures a contender again, which shows the noise.
func again(name string) string { return name + " again" }

// count returns a number with its noun, such as "1 connection" or "2 connections".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (b *bench) populate(ctx context.Context, n int, oneUser bool) (*stage.Space, []session.Ref) {
	sp, refs := b.Claim(ctx), stage.NewSessions(n, oneUser)
	b.Fill(ctx, sp.URL, refs)
	return sp, refs
}

// growth measures checks per second with different numbers of sessions in Redis. Each number has
// its own Redis database and sessiond. The same number of sessions is checked in all of them.
func (b *bench) growth(ctx context.Context) {
	var contenders []contender
	var first *stage.Space
	var firstBuild stage.Build
	for i, n := range append(slices.Clone(b.GrowthSessions), b.GrowthUser) {
		name, oneUser := count(n, "session"), i == len(b.GrowthSessions)
		if oneUser {
			name = fmt.Sprintf("%d of one user", n)
		}
		sp, refs := b.populate(ctx, n, oneUser)
		if i == 0 {
			first = sp
		}
		build := b.WithNewDatabase(ctx, b.Latest)
		if i == 0 {
			firstBuild = build
		}
		service := b.Service(ctx, build, sp.URL, nil)
		c := b.served(name, service, service.Addr, principal)
		c.requests = b.Keys.Mint(ctx, session.AlgEdDSA, refs, min(n, b.Sessions))
		contenders = append(contenders, c)
	}
	service := b.Service(ctx, firstBuild, first.URL, nil)
	c := b.served(again(contenders[0].name), service, service.Addr, principal)
	c.requests = contenders[0].requests
	b.takeTurns(ctx, first, report.Table{
		Part: report.Growth, Name: fmt.Sprintf("/v1/verify by the sessions in Redis, EdDSA, warm tokens, %s", count(principal, "connection")),
		Callers: principal, Alg: session.AlgEdDSA, Tokens: report.Warm, Against: []string{contenders[0].name},
	}, nil, false, append(contenders, c)...)
}

// memory fills Redis with live sessions, each of a different user, and checks every session once.
func (b *bench) memory(ctx context.Context) {
	before := probe.RedisMemory(ctx, b.Redis)
	sp, refs := b.populate(ctx, b.MemorySessions, false)
	after := probe.RedisMemory(ctx, b.Redis)
	service := b.Service(ctx, b.Latest, sp.URL, nil)
	idle, _ := probe.Memory(service.PID)
	cs := must.Get(load.Dial(ctx, principal, service.Addr))
	defer cs.Close()
	done := 0
	for part := range slices.Chunk(refs, 100_000) { // in parts, because the tokens of all sessions together would fill the machine's memory
		w := b.checkOnce(ctx, cs, b.Keys.Mint(ctx, session.AlgEdDSA, part, len(part)))
		done += len(part)
		b.Say("%d of %d are checked, at %.0f a second", done, len(refs), w.Rate())
	}
	resident, peak := probe.Memory(service.PID)
	b.report.Tables = append(b.report.Tables, report.Table{
		Part: report.Memory, Name: fmt.Sprintf("%d live sessions, each checked once", len(refs)),
		Rows: []report.Row{{Name: report.Verify, Rounds: []report.Figures{{
			report.IdleMB: idle, report.ResidentMB: resident, report.PeakMB: peak, report.PerSession: (after - before) / float64(len(refs)),
		}}}},
	})
}

// checkOnce sends every request once, and ends the run if a request was not answered.
func (b *bench) checkOnce(ctx context.Context, cs load.Clients, requests []load.Request) *load.Work {
	const long = 10 * time.Minute // time limit for 100,000 checks
	defer cs.Bound(ctx, long)()
	w := load.NewWork()
	must.Do(load.Drive(ctx, len(cs), long, &load.Supply{Requests: requests, Once: true}, cs.Ask(true), w))
	b.report.Complain("a check of each session", w.Wrong, w.Complaint)
	if int(w.Latencies.TotalCount()) != len(requests) {
		must.Do(errors.New("some sessions were not checked within 10 minutes"))
	}
	return w
}
