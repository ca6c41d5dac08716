package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
)

// compare has the baselines, the builds of sessiond and the verifier in process take turns.
func (b *bench) compare(ctx context.Context) {
	sp, refs := b.populate(ctx, b.Sessions, false)
	sp.FillPlain(ctx, refs)
	batched, _ := b.Verifier(sp.URL, redisstore.Options{})
	unbatched, _ := b.Verifier(sp.URL, redisstore.Options{Unbatched: true})
	unbatchedAgain, _ := b.Verifier(sp.URL, redisstore.Options{Unbatched: true})
	servers, services := b.servers(ctx, sp)
	b.report.Service = services[len(services)-1]
	against := []string{report.Empty, report.Plain}
	if len(services) > 1 {
		against = append(against, services[0])
	}
	middle := principal
	if !slices.Contains(b.Connections, middle) {
		middle = b.Connections[len(b.Connections)-1]
	}
	for i, tokens := range b.Tokens {
		for j, alg := range b.Algorithms {
			connections := []int{middle}
			if i == 0 && j == 0 {
				connections = b.Connections
			}
			for _, n := range connections {
				b.Scope(func() {
					var contenders []contender
					for _, s := range servers {
						contenders = append(contenders, s(n))
					}
					if n == middle && i == 0 && j == 0 { // those without HTTP take turns, too
						contenders = append(contenders, direct(report.InProcess, n, verifying(batched)), direct(report.Unbatched, n, verifying(unbatched)))
						if c, err := b.ceiling(ctx, sp); err == nil {
							contenders = append(contenders, c)
						} else {
							b.Say("NOT MEASURED: %s: %v", report.Ceiling, err)
						}
					}
					b.takeTurns(ctx, sp, report.Table{
						Part: report.Compare, Name: fmt.Sprintf("%s, %s tokens, %s", alg, tokens, count(n, "connection")),
						Callers: n, Alg: alg, Tokens: tokens, Against: against,
					}, refs, false, contenders...)
				})
			}
		}
	}
	alg := b.Algorithms[0]
	for _, n := range []int{1, 2, principal} {
		b.takeTurns(ctx, sp, report.Table{
			Part: report.Direct, Name: fmt.Sprintf("without HTTP, %s, warm tokens, %s", alg, count(n, "goroutine")),
			Callers: n, Alg: alg, Tokens: report.Warm, Against: []string{report.Unbatched},
		}, refs, n < principal,
			direct(report.InProcess, n, verifying(batched)), direct(report.Unbatched, n, verifying(unbatched)),
			direct(again("unbatched"), n, verifying(unbatchedAgain)), direct(report.GoRedis, n, b.goRedis(ctx, sp)))
	}
}

// servers starts all that serve HTTP. Each makes a contender with so many connections. services are
// the rows of the builds.
func (b *bench) servers(ctx context.Context, sp *stage.Space) (servers []func(connections int) contender, services []string) {
	add := func(name string, p *stage.Process, isService, blind bool) {
		servers = append(servers, func(n int) contender {
			c := b.served(name, p, n, isService)
			c.blind = blind
			return c
		})
	}
	add(report.Empty, b.Baseline(ctx, stage.Empty, sp.URL), false, true)
	add(report.Plain, b.Baseline(ctx, stage.Plain, sp.URL), false, false)
	for _, build := range b.Builds {
		services = append(services, strings.TrimSpace(report.Verify+" "+build.Name))
		add(services[len(services)-1], b.Service(ctx, build, sp.URL, nil), true, false)
	}
	if len(b.Builds) > 1 {
		add(again(services[0]), b.Service(ctx, b.Builds[0], sp.URL, nil), true, false)
	}
	add(again(report.Empty), b.Baseline(ctx, stage.Empty, sp.URL), false, true)
	return servers, services
}

func verifying(v *session.Verifier) load.Ask {
	return func(ctx context.Context, _ int, r *load.Request) error {
		claims, err := v.Verify(ctx, r.Token)
		return verdict(r, claims, err)
	}
}

// verdict returns an error that wraps ErrWrong unless a verifier's answer is the right one for r.
func verdict(r *load.Request, claims session.Claims, err error) error {
	switch {
	case r.Revoked && errors.Is(err, session.ErrRevoked):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", load.ErrWrong, err)
	case r.Revoked || claims.SessionID != r.Session:
		return fmt.Errorf("%w: session %q, want %q, revoked: %t", load.ErrWrong, claims.SessionID, r.Session, r.Revoked)
	default:
		return nil
	}
}

// goRedis sends the commands of a check and does nothing else.
func (b *bench) goRedis(ctx context.Context, sp *stage.Space) load.Ask {
	client := must.Get(redisstore.NewClient(sp.URL, redisstore.Options{}))
	b.Later(client.Close)
	generation, entry, blacklist := sp.CeilingKeys(ctx)
	return func(ctx context.Context, _ int, _ *load.Request) error {
		pipe := client.Pipeline()
		pipe.GetEx(ctx, generation, -1)
		pipe.MGet(ctx, generation, entry, blacklist)
		pipe.Info(ctx, "replication")
		_, err := pipe.Exec(ctx)
		return err
	}
}

// ceiling is redis-benchmark as a contender. It shows how fast this Redis answers three keys when
// nothing else asks, with enough connections and pipelines.
func (b *bench) ceiling(ctx context.Context, sp *stage.Space) (contender, error) {
	program, err := exec.LookPath(b.RedisBenchmark)
	generation, entry, blacklist := sp.CeilingKeys(ctx)
	rate := 100_000.0 // a guess, for the first round
	return contender{name: report.Ceiling, blind: true, whole: true, load: func(ctx context.Context, d time.Duration, _ *load.Supply, w *load.Work) {
		const clients, pipeline = 64, 16
		n := max(int(rate*d.Seconds()), clients*pipeline)
		out, err := exec.CommandContext(ctx, program, "-u", sp.URL, "--csv", "--precision", "3", "-c", strconv.Itoa(clients), "-P", strconv.Itoa(pipeline), //nolint:gosec // G204: Redis's own program
			"-n", strconv.Itoa(n), "MGET", generation, entry, blacklist).Output()
		must.Do(errors.Join(err, parseCeiling(out, n, w)))
		rate = w.Rate()
	}}, err
}

// parseCeiling reads the CSV of redis-benchmark: a line of names and a line of figures.
func parseCeiling(out []byte, n int, w *load.Work) error {
	lines, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil || len(lines) != 2 {
		return fmt.Errorf("redis-benchmark: want two lines of CSV: %q", out)
	}
	figures := map[string]float64{}
	for i, name := range lines[0] {
		figures[name], _ = strconv.ParseFloat(lines[1][i], 64) // 0: not a number
	}
	if figures["rps"] <= 0 {
		return fmt.Errorf("redis-benchmark: want a rate: %q", out)
	}
	w.Took = time.Duration(float64(n) / figures["rps"] * float64(time.Second))
	// Latencies that have the median and the 99th percentile that it has found.
	p50, p99 := figures["p50_latency_ms"]*float64(time.Millisecond), figures["p99_latency_ms"]*float64(time.Millisecond)
	return errors.Join(w.Latencies.RecordValues(int64(p50), int64((n+1)/2)), w.Latencies.RecordValues(int64(p99), int64(n/2)))
}
