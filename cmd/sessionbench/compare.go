package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
)

// principal is the number of connections at which everything is measured.
const principal = 64

func (c *config) principal() int {
	if slices.Contains(c.Connections, principal) {
		return principal
	}
	return c.Connections[len(c.Connections)-1]
}

// tables lists what compare measures over HTTP.
func (c *config) tables() (tables []report.Table) {
	for _, tokens := range c.Tokens {
		for i, alg := range c.Algorithms {
			connections := c.Connections
			if i > 0 || tokens == report.Fresh {
				connections = []int{c.principal()}
			}
			for _, n := range connections {
				tables = append(tables, report.Table{
					Part: report.Compare, Name: fmt.Sprintf("%s, %s tokens, %s", alg, tokens, count(n, "connection")),
					Callers: n, Alg: alg, Tokens: tokens, Against: []string{report.Empty, report.Plain},
				})
			}
		}
	}
	return tables
}

// server is a contender of compare that serves HTTP.
type server struct {
	name    string
	process *stage.Process
}

// compare has the baselines, the builds of sessiond and the verifier in process take turns.
func (b *bench) compare(ctx context.Context) error {
	sp, err := b.Claim(ctx, b.RedisURL)
	if err != nil {
		return err
	}
	b.describe(ctx, sp)
	refs := stage.NewSessions(b.Sessions, false)
	b.Say("putting %s into Redis", count(b.Sessions, "session"))
	if err := errors.Join(sp.Fill(ctx, refs, nil), sp.FillPlain(ctx, refs)); err != nil {
		return err
	}
	servers, services, err := b.servers(ctx, sp)
	if err != nil {
		return err
	}
	b.report.Service = services[len(services)-1]
	batched, err1 := b.Verifier(sp.URL, redisstore.Options{})
	unbatched, err2 := b.Verifier(sp.URL, redisstore.Options{Unbatched: true})
	unbatchedAgain, err3 := b.Verifier(sp.URL, redisstore.Options{Unbatched: true})
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	everybody := true // in the first table also those without HTTP take turns
	for _, t := range b.tables() {
		if len(services) > 1 {
			t.Against = append(t.Against, services[0])
		}
		if err := b.Scope(func() error {
			var contenders []contender
			for _, s := range servers {
				contenders = append(contenders, b.served(s.name, s.process, t.Callers, slices.Contains(services, s.name) || s.name == again(services[0])))
			}
			if everybody && t.Callers == b.principal() {
				everybody = false
				contenders = append(contenders, direct(report.InProcess, batched, t.Callers), direct(report.Unbatched, unbatched, t.Callers))
				c, err := b.ceiling(ctx, sp)
				if err != nil {
					b.Say("NOT MEASURED: %s: %v", report.Ceiling, err)
				} else {
					contenders = append(contenders, c)
				}
			}
			return b.takeTurns(ctx, sp.Client, t, refs, false, contenders)
		}); err != nil {
			return err
		}
	}
	after := report.Table{Part: report.After, Name: "after all these rounds; allocations of a warm check in process"}
	for _, s := range servers {
		resident, _, err := probe.Memory(s.process.PID())
		if err != nil {
			return err
		}
		after.Rows = append(after.Rows, report.Row{Name: s.name, Rounds: []report.Figures{{report.Resident: resident}}})
	}
	alg := b.Algorithms[0]
	for _, n := range []int{1, 2, principal} {
		if err := b.takeTurns(ctx, sp.Client, report.Table{
			Part: report.Direct, Name: fmt.Sprintf("without HTTP, %s, warm tokens, %s", alg, count(n, "goroutine")),
			Callers: n, Alg: alg, Tokens: report.Warm, Against: []string{report.Unbatched},
		}, refs, n < principal, []contender{
			direct(report.InProcess, batched, n), direct(report.Unbatched, unbatched, n), direct(again("unbatched"), unbatchedAgain, n),
		}); err != nil {
			return err
		}
	}
	requests, err := b.Keys.Mint(ctx, alg, refs, len(refs))
	if err != nil {
		return err
	}
	rows, err := countAllocations(ctx, sp, batched, requests)
	after.Rows = append(after.Rows, rows...)
	b.report.Add(after)
	return err
}

// servers starts all that serve HTTP and returns which of them are builds of sessiond.
func (b *bench) servers(ctx context.Context, sp *stage.Space) (servers []server, services []string, err error) {
	baseline := func(name, base string) {
		p, failed := b.Baseline(ctx, base, sp.URL)
		servers, err = append(servers, server{name, p}), errors.Join(err, failed)
	}
	service := func(name string, build stage.Build) {
		p, failed := b.Service(ctx, build, sp.URL, nil)
		servers, err = append(servers, server{name, p}), errors.Join(err, failed)
	}
	baseline(report.Empty, stage.Empty)
	baseline(report.Plain, stage.Plain)
	for _, build := range b.Builds {
		name := strings.TrimSpace(report.Verify + " " + build.Name)
		services = append(services, name)
		service(name, build)
	}
	if len(b.Builds) > 1 {
		service(again(services[0]), b.Builds[0])
	}
	baseline(again(report.Empty), stage.Empty)
	return servers, services, err
}

// direct is a contender without HTTP: n goroutines that call the verifier.
func direct(name string, v *session.Verifier, n int) contender {
	ask := func(ctx context.Context, _ int, r *load.Request) error {
		claims, err := v.Verify(ctx, r.Token)
		return verdict(r, claims, err)
	}
	return contender{name: name, pid: os.Getpid(), load: func(ctx context.Context, d time.Duration, from *load.Supply, w *load.Work) error {
		return load.Drive(ctx, n, d, from, ask, w)
	}}
}

// verdict returns an error that wraps ErrWrong unless a verifier's answer is the right one for r.
func verdict(r *load.Request, claims session.Claims, err error) error {
	switch {
	case r.Revoked && errors.Is(err, session.ErrRevoked):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", load.ErrWrong, err)
	case r.Revoked:
		return fmt.Errorf("%w: a revoked session was accepted", load.ErrWrong)
	case claims.SessionID != r.Session:
		return fmt.Errorf("%w: session %q, want %q", load.ErrWrong, claims.SessionID, r.Session)
	default:
		return nil
	}
}

// countAllocations compares a warm check with what go-redis alone allocates for the same commands.
func countAllocations(ctx context.Context, sp *stage.Space, v *session.Verifier, requests []load.Request) ([]report.Row, error) {
	client, err := redisstore.NewClient(sp.URL, redisstore.Options{})
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck // nothing was written
	generation, entry, blacklist, err := sp.CeilingKeys(ctx)
	if err != nil {
		return nil, err
	}
	i := 0
	check, err1 := allocations(func() error {
		i++
		_, err := v.Verify(ctx, requests[i%len(requests)].Token)
		return err
	})
	alone, err2 := allocations(func() error {
		pipe := client.Pipeline()
		pipe.GetEx(ctx, generation, -1)
		pipe.MGet(ctx, generation, entry, blacklist)
		pipe.Info(ctx, "replication")
		_, err := pipe.Exec(ctx)
		return err
	})
	return []report.Row{
		{Name: report.InProcess, Rounds: []report.Figures{{report.Allocations: check}}},
		{Name: report.GoRedis, Rounds: []report.Figures{{report.Allocations: alone}}},
	}, errors.Join(err1, err2)
}

// allocations is how often f allocates, on average and once warm. Nothing else may run.
func allocations(f func() error) (float64, error) {
	const times = 1_000
	var before, after runtime.MemStats
	for i := range 2 * times {
		if i == times {
			runtime.ReadMemStats(&before)
		}
		if err := f(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / times, nil
}

// ceiling is redis-benchmark as a contender. It shows how fast this Redis answers three keys when
// nothing else asks, with enough connections and pipelines.
func (b *bench) ceiling(ctx context.Context, sp *stage.Space) (contender, error) {
	const clients, pipeline = 64, 16
	program, err := exec.LookPath(b.RedisBenchmark)
	if err != nil {
		return contender{}, err
	}
	options := sp.Client.Options()
	host, port, err := net.SplitHostPort(options.Addr)
	if err != nil {
		return contender{}, err
	}
	generation, entry, blacklist, err := sp.CeilingKeys(ctx)
	if err != nil {
		return contender{}, err
	}
	args := []string{"-h", host, "-p", port, "--dbnum", strconv.Itoa(options.DB), "--csv", "--precision", "3", "-c", strconv.Itoa(clients), "-P", strconv.Itoa(pipeline)}
	if options.Password != "" {
		args = append(args, "-a", options.Password)
	}
	if options.Username != "" {
		args = append(args, "--user", options.Username)
	}
	rate := 100_000.0 // a guess, for the first round
	return contender{name: report.Ceiling, blind: true, whole: true, load: func(ctx context.Context, d time.Duration, _ *load.Supply, w *load.Work) error {
		n := max(int(rate*d.Seconds()), clients*pipeline)
		command := append(args[:len(args):len(args)], "-n", strconv.Itoa(n), "MGET", generation, entry, blacklist)
		out, err := exec.CommandContext(ctx, program, command...).Output() //nolint:gosec // G204: a program of Redis's
		if err != nil {
			return fmt.Errorf("%s: %w", b.RedisBenchmark, err)
		}
		err = parseCeiling(out, n, w)
		rate = w.Rate()
		return err
	}}, nil
}

// parseCeiling reads the CSV of redis-benchmark: a line of names and a line of figures.
func parseCeiling(out []byte, n int, w *load.Work) error {
	lines, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil || len(lines) != 2 {
		return errors.New("redis-benchmark: want two lines of CSV")
	}
	figure := func(name string) float64 {
		value, _ := strconv.ParseFloat(lines[1][max(0, slices.Index(lines[0], name))], 64) // 0 if there is none
		return value
	}
	if figure("rps") <= 0 {
		return errors.New("redis-benchmark: want a rate")
	}
	w.Took = time.Duration(float64(n) / figure("rps") * float64(time.Second))
	// Latencies that have the median and the 99th percentile that it has found.
	for i, name := range []string{"p50_latency_ms", "p99_latency_ms"} {
		if err := w.Latencies.RecordValues(int64(figure(name)*float64(time.Millisecond)), int64((n+1-i)/2)); err != nil {
			return err
		}
	}
	return nil
}
