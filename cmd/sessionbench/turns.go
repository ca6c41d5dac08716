package main

import (
	"context"
	"os"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/session"
)

// contender is one of those that take turns.
type contender struct {
	name     string
	sessions int  // growth: how many Redis holds
	oneUser  bool // growth: all of them are of one user
	load     func(ctx context.Context, d time.Duration, from *load.Supply, w *load.Work) error
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
	return contender{name: name, pid: p.PID(), blind: name == report.Empty || name == again(report.Empty), load: func(ctx context.Context, d time.Duration, from *load.Supply, w *load.Work) (err error) {
		if cs == nil {
			if cs, err = load.DialAll(ctx, n, p.Addr); err != nil {
				return err
			}
		}
		defer cs.Bound(ctx, d)()
		return load.Drive(ctx, n, d, from, cs.Ask(named), w)
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

// turn is what one contender does in a round.
type turn struct {
	contender
	from  *load.Supply
	work  *load.Work
	spent probe.Clocks
	turns int
}

// takeTurns has the contenders of a table take turns in every round, with another one first each
// time, and adds the table to the report. A round that warms them up comes first and does not count.
// Contenders without requests of their own are asked for refs.
func (b *bench) takeTurns(ctx context.Context, client *redis.Client, t report.Table, refs []session.Ref, fine bool, contenders []contender) error {
	rounds, length := b.rounds(7, time.Second)
	turns := coarseTurns
	if fine {
		rounds, turns = fineRounds*rounds, fineTurns
	}
	t.Round, t.Turn = length, length/time.Duration(turns)
	for _, c := range contenders {
		t.Rows = append(t.Rows, report.Row{Name: c.name, Sessions: c.sessions, OneUser: c.oneUser})
	}
	var requests []load.Request
	fastest := 5_000.0 // checks a second, for which new tokens are made
	for round := range rounds + 1 {
		b.Say("%s: round %d of %d", t.Name, round, rounds) // 0 warms up
		if len(refs) > 0 && (t.Tokens == report.Fresh || requests == nil) {
			n := len(refs)
			if t.Tokens == report.Fresh {
				n = int(1.5*fastest*length.Seconds()) + t.Callers
			}
			var err error
			if requests, err = b.Keys.Mint(ctx, t.Alg, refs, n); err != nil {
				return err
			}
		}
		all := make([]*turn, len(contenders))
		for i, c := range contenders {
			all[i] = &turn{contender: c, work: load.NewWork(), from: &load.Supply{Requests: requests, Once: t.Tokens == report.Fresh && !c.blind}}
			if c.requests != nil {
				all[i].from.Requests = c.requests
			}
		}
		for n := range turns {
			for i := range all {
				one := all[(n+i+round)%len(all)]
				if one.whole && n > 0 {
					continue
				}
				if err := b.play(ctx, client, one, t, fine); err != nil {
					return err
				}
			}
		}
		for i, one := range all {
			b.report.Complain(one.name, one.work.Wrong, one.work.Complaint)
			if round > 0 {
				t.Rows[i].Rounds = append(t.Rows[i].Rounds, one.figures())
			}
			if !one.blind {
				fastest = max(fastest, one.work.Rate())
			}
		}
	}
	b.report.Add(t)
	return nil
}

// play has a contender work for one turn.
func (b *bench) play(ctx context.Context, client *redis.Client, one *turn, t report.Table, fine bool) error {
	d := t.Turn
	switch {
	case fine:
		return one.load(ctx, d, one.from, one.work)
	case one.whole:
		d = t.Round
	}
	runtime.GC() // what made the tokens must not be swept on the contender's time
	before, err := probe.Read(ctx, client, one.pid)
	if err != nil {
		return err
	}
	if err := one.load(ctx, d, one.from, one.work); err != nil {
		return err
	}
	after, err := probe.Read(ctx, client, one.pid)
	if err != nil {
		return err
	}
	var spent probe.Clocks
	spent.Add(before, after)
	one.spent.Add(before, after)
	one.turns++
	if one.pid == os.Getpid() {
		spent.Process = 0 // it is in Self
	}
	b.report.Others.Add(spent)
	return nil
}

func (one *turn) figures() report.Figures {
	w := one.work
	f := report.Figures{
		report.Checks: float64(w.Checks()), report.Rate: w.Rate(),
		report.P50: micros(w.Percentile(50)), report.P99: micros(w.Percentile(99)),
	}
	if one.turns > 0 {
		checks := float64(max(w.Checks(), 1))
		f[report.CPU], f[report.RedisCPU] = micros(one.spent.Process)/checks, micros(one.spent.Redis)/checks
		f[report.RedisReads] = float64(one.spent.Reads-int64(one.turns)) / checks // one of each turn is ours
		f[report.LoadCPU] = micros(one.spent.Self) / checks
	}
	return f
}

// again names the row of the same contender measured twice, which shows the noise.
func again(name string) string { return name + " again" }

func micros(d time.Duration) float64 { return 1000 * load.Millis(d) }
