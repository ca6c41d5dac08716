package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/plot"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/size"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/session"
)

// The containers whose number is predicted and measured. They are small, so that they are busy long before
// the machine and the load generator are. The periods are short, because otherwise Redis would stand still
// for longer than a check waits for it.
const (
	replicaCores, replicaPeriod = 0.2, 10 * time.Millisecond
	shardCores, shardPeriod     = 0.035, 30 * time.Millisecond
)

// cell is a Redis Cluster with the replicas that use it.
type cell struct {
	cluster                    *stage.Cluster
	replicas                   []*stage.Process
	replicaGroups, shardGroups []*stage.Group
	requests                   []load.Request
}

func (b *bench) cell(ctx context.Context, program string, shards, replicas int) *cell {
	const sessions = 1000
	c, build := &cell{}, b.WithNewDatabase(ctx, b.Latest)
	for range shards {
		c.shardGroups = append(c.shardGroups, must.Get(b.NewGroup()))
	}
	c.cluster = b.StartCluster(ctx, program, c.shardGroups)
	for i := range replicas {
		start, g := b.Join, must.Get(b.NewGroup())
		if i == 0 {
			start = b.Service
		}
		c.replicaGroups = append(c.replicaGroups, g)
		c.replicas = append(c.replicas, start(ctx, build, c.cluster.URL, g.Wrap))
	}
	refs := stage.NewSessions(sessions, false)
	b.Ledger(build).Record(ctx, refs)
	b.Fill(ctx, c.cluster.URL, refs)
	c.requests = b.Keys.Mint(ctx, session.AlgEdDSA, refs, sessions)
	return c
}

// point is a configuration whose rate of checks is measured while either the replicas or the shards have all
// the CPU that they may use.
type point struct {
	name             string
	cell             *cell
	replicas, shards int
	callers          int
	byShards         bool // the shards are limited, not the replicas
}

// waiting is how many checks of one replica wait for one shard, if the others in the replica are few.
func (p *point) waiting() float64 { return float64(p.callers) / float64(p.replicas*p.shards) }

// granted is the CPU that the limited containers may use together, in cores.
func (p *point) granted() float64 {
	if p.byShards {
		return float64(p.shards) * shardCores
	}
	return float64(p.replicas) * replicaCores
}

// points returns the configurations that are predicted, and the four from which they are predicted: two replicas and
// two shards, with few and with many callers, once with small replicas and once with small shards.
func points(one, two, three *cell) (predicted, small []*point) {
	for _, callers := range []int{2 * 48, 2 * 192} {
		small = append(small, &point{fmt.Sprintf("2 small replicas, 2 shards, %d callers", callers), two, 2, 2, callers, false})
	}
	for _, callers := range []int{2 * 48, 2 * 192} {
		small = append(small, &point{fmt.Sprintf("2 replicas, 2 small shards, %d callers", callers), two, 2, 2, callers, true})
	}
	for n := 1; n <= 3; n++ {
		predicted = append(predicted, &point{count(n, "small replica") + ", 3 shards", three, n, 3, n * 96, false})
	}
	for i, c := range []*cell{one, two, three} {
		predicted = append(predicted, &point{"3 replicas, " + count(i+1, "small shard"), c, 3, i + 1, 3 * 96, true})
	}
	return predicted, small
}

// predict returns the rate of p, in checks a second, from the rates of the points that points returns as small.
func (p *point) predict(small []*point, rate func(*point) float64) float64 {
	if p.byShards {
		small = small[2:]
	}
	cpu := func(i int) float64 { return 1e6 * small[i].granted() / rate(small[i]) }
	cost := size.Fit(cpu(0), size.Batch(small[0].waiting()), cpu(1), size.Batch(small[1].waiting()))
	return 1e6 * p.granted() / cost.At(size.Batch(p.waiting()))
}

const (
	limit = 0.15 // largest deviation of a prediction
	busy  = 0.9  // share of their CPU that the limited containers use at least, because otherwise the load generator or the machine is the limit
)

// sizeMeasured measures the points in turns, and compares what was predicted with what was measured.
func (b *bench) sizeMeasured(ctx context.Context, program, svg string, w io.Writer) error {
	must.Do(b.Spin(ctx))
	predicted, small := points(b.cell(ctx, program, 1, 3), b.cell(ctx, program, 2, 3), b.cell(ctx, program, 3, 3))
	all := append(append([]*point{}, predicted...), small...)
	rounds, length := b.rounds(22, 500*time.Millisecond)
	t := report.Table{Part: report.Size, Name: "containers that use all the CPU that they may", Round: length, Turn: length, Rows: make([]report.Row, len(all))}
	for n := range rounds + 1 { // round 0 warms up
		b.Say("round %d of %d", n, rounds)
		turns := len(all) + len(small) // the small ones twice, because all predictions depend on them
		for i := range turns {
			if i = (i + n) % turns; i >= len(all) {
				i -= len(small)
			}
			f := b.turn(ctx, all[i], length)
			if t.Rows[i].Name = all[i].name; n > 0 {
				t.Rows[i].Rounds = append(t.Rows[i].Rounds, f)
			}
		}
	}
	b.report.Tables = append(b.report.Tables, t)
	b.report.Print(w)
	return b.guess(w, t, predicted, small, svg)
}

// turn drives a point for a while and returns its figures.
func (b *bench) turn(ctx context.Context, p *point, d time.Duration) report.Figures {
	c, replicas, shards := p.cell, replicaCores, 0.0
	if p.byShards {
		replicas, shards = 0, shardCores
	}
	for _, g := range c.replicaGroups {
		must.Do(g.Limit(replicas, replicaPeriod))
	}
	for _, g := range c.shardGroups {
		must.Do(g.Limit(shards, shardPeriod))
	}
	var addrs []string
	for _, r := range c.replicas[:p.replicas] {
		addrs = append(addrs, r.Check)
	}
	cs := must.Get(load.Dial(ctx, p.callers, addrs...))
	defer cs.Close()
	defer cs.Bound(ctx, 2*d)()
	from, work := &load.Supply{Requests: c.requests}, load.NewWork()
	ask := func(_ context.Context, caller int, r *load.Request) error {
		err := cs[caller].Check(r, true)
		if errors.Is(err, load.ErrWrong) && cs[caller].Status() == http.StatusServiceUnavailable {
			return load.ErrDeclined // Redis stood still for longer than the check waited, and Postgres was busy
		}
		return err
	}
	must.Do(load.Drive(ctx, p.callers, d/4, from, ask, load.NewWork())) // until the limits are felt
	before := p.clocks(ctx)
	must.Do(load.Drive(ctx, p.callers, d, from, ask, work))
	var spent probe.Clocks
	spent.Add(before, p.clocks(ctx))
	b.report.Complain(p.name, work.Wrong, work.Complaint)
	checks, used := float64(int(work.Latencies.TotalCount())-work.Declined), spent.Process
	if p.byShards {
		used = spent.Redis
	}
	return report.Figures{
		report.Checks: checks, report.Rate: checks / work.Took.Seconds(), report.P50: load.Micros(work.Percentile(50)), report.P99: load.Micros(work.Percentile(99)),
		report.CPU: load.Micros(spent.Process) / checks, report.RedisCPU: load.Micros(spent.Redis) / checks, report.Trips: float64(spent.Reads-p.shards) / checks,
		report.LoadCPU: load.Micros(spent.Self) / checks, report.Used: used.Seconds() / spent.Wall.Seconds() / p.granted(), report.LoadCores: spent.Self.Seconds() / spent.Wall.Seconds(),
		report.Declined: float64(work.Declined),
	}
}

// clocks reads the CPU times of this program, and the sums of those of the replicas and of the shards.
func (p *point) clocks(ctx context.Context) (sum probe.Clocks) {
	for i := range max(p.replicas, p.shards) {
		pid, shard := 0, p.cell.cluster.Nodes[min(i, p.shards-1)]
		if i < p.replicas {
			pid = p.cell.replicas[i].PID
		}
		c := probe.Read(ctx, shard, pid)
		if i >= p.shards {
			c.Redis, c.Reads = 0, 0
		}
		sum.Process, sum.Redis, sum.Reads = sum.Process+c.Process, sum.Redis+c.Redis, sum.Reads+c.Reads
		sum.Self, sum.Machine, sum.Wall = c.Self, c.Machine, c.Wall
	}
	return sum
}

// guess prints the predicted and the measured rates. It returns an error if they deviate by more than limit.
func (b *bench) guess(w io.Writer, t report.Table, predicted, small []*point, svg string) (err error) {
	fmt.Fprintf(w, "\nPredicted from the last %d rows\n\n| deployment | predicted, checks/s | measured | deviation |\n| --- | ---: | ---: | ---: |\n", len(small))
	measured := func(p *point) report.Spread { return t.Row(p.name).Spread(report.Rate) }
	var guesses []plot.Guess
	for _, p := range predicted {
		rate := p.predict(small, func(p *point) float64 { return measured(p).Median })
		off := measured(p).Median/rate - 1
		fmt.Fprintf(w, "| %s | %.0f | %.0f | %+.1f %% |\n", p.name, rate, measured(p).Median, 100*off)
		if math.Abs(off) > limit {
			err = errors.Join(err, fmt.Errorf("%s: the prediction is off by %.1f %%; at most %.0f %% are allowed", p.name, 100*off, 100*limit))
		}
		if used := t.Row(p.name).Spread(report.Used).Median; used < busy {
			err = errors.Join(err, fmt.Errorf("%s: the containers used only %.0f %% of their CPU, so something else was the limit", p.name, 100*used))
		}
		guesses = append(guesses, plot.Guess{Name: p.name, Predicted: report.Spread{Median: rate, Low: rate, High: rate}, Measured: measured(p)})
	}
	if svg != "" {
		must.Do(os.WriteFile(filepath.Join(svg, "predicted.svg"), plot.Guesses(guesses, b.report.Machine), 0o644)) //nolint:gosec // G306: other users may read the plot
	}
	return err
}
