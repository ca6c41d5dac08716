package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/session"
)

// principal is the number of connections at which everything is measured.
const principal = 64

// contender is one of those that take turns.
type contender struct {
	name     string
	load     func(ctx context.Context, d time.Duration, from *load.Supply, w *load.Work)
	ask      load.Ask       // without HTTP
	pid      int            // of the process that answers; 0: not one of ours
	blind    bool           // it does not look at the token, so a used one is as good as a new one
	whole    bool           // its rounds cannot be cut into turns
	requests []load.Request // what it is asked; nil: the same as the others
}

// served is a contender behind HTTP. Its n connections are made in its first turn, because sessiond
// closes one that sends nothing at first, and stay open until the current scope ends.
func (b *bench) served(name string, p *stage.Process, n int, named bool) contender {
	var cs load.Clients
	b.Later(func() error { cs.Close(); return nil })
	return contender{name: name, pid: p.PID(), load: func(ctx context.Context, d time.Duration, from *load.Supply, w *load.Work) {
		if cs == nil {
			cs = must.Get(load.Dial(ctx, n, p.Addr))
		}
		defer cs.Bound(ctx, d)()
		must.Do(load.Drive(ctx, n, d, from, cs.Ask(named), w))
	}}
}

// direct is a contender without HTTP: n goroutines that ask.
func direct(name string, n int, ask load.Ask) contender {
	return contender{name: name, ask: ask, pid: os.Getpid(), load: func(ctx context.Context, d time.Duration, from *load.Supply, w *load.Work) {
		must.Do(load.Drive(ctx, n, d, from, ask, w))
	}}
}

const (
	// coarseTurns is into how many turns a contender's round is cut. A machine that becomes slower
	// for a while then does so for all contenders.
	coarseTurns = 5
	// fineTurns is for contenders that differ by little and have few callers. The wait of two
	// threads for each other is up to three times as long when the kernel runs them on two cores,
	// and that changes every few milliseconds. Clocks cannot be read in such short turns.
	fineTurns  = 500
	fineRounds = 3 // for each of the usual ones
)

// round is what one contender does in a round.
type round struct {
	contender
	from  *load.Supply
	work  *load.Work
	spent probe.Clocks
	turns int // in which clocks were read
}

// takeTurns has the contenders of a table take turns in every round, with another one first each
// time, and adds the table to the report. A round that warms them up comes first and does not count.
// Contenders without requests of their own are asked for refs.
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
	fastest := 5_000.0 // checks a second, for which new tokens are made
	for n := range rounds + 1 {
		b.Say("%s: round %d of %d", t.Name, n, rounds) // 0 warms up
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
				f[report.Allocations] = allocations(ctx, one.ask, one.from.Requests)
			}
			if n > 0 {
				t.Rows[i].Rounds = append(t.Rows[i].Rounds, f)
			}
			if !one.blind {
				fastest = max(fastest, f[report.Rate])
			}
		}
	}
	b.report.Add(t)
}

// clocked has a contender work for one turn and reads the clocks before and after.
func (b *bench) clocked(ctx context.Context, sp *stage.Space, one *round, d time.Duration) {
	runtime.GC() // what made the tokens must not be swept on the contender's time
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
	f := report.Figures{report.Checks: checks, report.Rate: w.Rate(), report.P50: micros(w.Percentile(50)), report.P99: micros(w.Percentile(99))}
	if one.turns == 0 {
		return f
	}
	f[report.RedisCPU] = micros(one.spent.Redis) / checks
	f[report.Trips] = float64(one.spent.Reads-one.turns) / checks // one of each turn is ours
	f[report.LoadCPU] = micros(one.spent.Self) / checks
	switch one.pid {
	case 0:
	case os.Getpid():
		f[report.CPU] = f[report.LoadCPU]
	default:
		f[report.CPU] = micros(one.spent.Process) / checks
		f[report.ResidentMB], _ = probe.Memory(one.pid)
	}
	return f
}

// allocations is how often a check allocates, on average and once warm. Nothing else may run.
func allocations(ctx context.Context, ask load.Ask, requests []load.Request) float64 {
	const times = 500
	var before, after runtime.MemStats
	for i := range 2 * times {
		if i == times {
			runtime.ReadMemStats(&before)
		}
		must.Do(ask(ctx, 0, &requests[i%len(requests)]))
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / times
}

// again names the row of the same contender measured twice, which shows the noise.
func again(name string) string { return name + " again" }

// count is "1 connection" or "2 connections".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func micros(d time.Duration) float64 { return 1000 * load.Millis(d) }
