package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/size"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session/issuer"
)

// calibrate measures the costs of single operations and returns them as JSON, with three digits that count.
func (b *bench) calibrate(ctx context.Context, program string, fillfactor int) []byte {
	costs := size.Costs{Machine: b.report.Machine}
	must.Do(b.Spin(ctx))
	b.Scope(func() { b.calibrateChecks(ctx, program, &costs) })
	b.calibrateLedger(ctx, fillfactor, &costs)
	text := append(must.Get(json.MarshalIndent(costs, "", "  ")), '\n')
	return regexp.MustCompile(`": \d+\.\d+`).ReplaceAllFunc(text, func(number []byte) []byte {
		rounded := strconv.FormatFloat(must.Get(strconv.ParseFloat(string(number[3:]), 64)), 'g', 3, 64)
		return strconv.AppendFloat([]byte(`": `), must.Get(strconv.ParseFloat(rounded, 64)), 'f', -1, 64)
	})
}

// calibrateChecks measures checks of one replica on a Redis Cluster of one shard, in each way, with few and with many
// callers. The two differ in how many checks share a round trip.
func (b *bench) calibrateChecks(ctx context.Context, program string, costs *size.Costs) {
	const few, many, rounds, length = 6, 64, 7, 500 * time.Millisecond
	c := b.cell(ctx, program, 1, 1)
	replica, shard := c.replicas[0], c.cluster.Nodes[0]
	v, _ := b.Verifier(c.cluster.URL, redisstore.Options{})
	inProcess := func(ctx context.Context, _ int, r *load.Request) error {
		claims, err := v.Verify(ctx, r.Token)
		return verdict(r, claims, err)
	}
	var contenders []contender
	for _, n := range []int{few, many} {
		contenders = append(contenders, b.served("check port", replica, replica.Check, n), b.served("main port", replica, replica.Addr, n),
			b.asked("gRPC", replica, n), direct("in process", n, inProcess))
	}
	type sums struct{ cpu, redis, trips []float64 }
	all := make([]sums, len(contenders))
	for n := range rounds + 1 {
		b.Say("checks: round %d of %d", n, rounds)
		for i, c0 := range contenders {
			work := load.NewWork()
			before := probe.Read(ctx, shard, c0.pid)
			c0.load(ctx, length, &load.Supply{Requests: c.requests}, work)
			var spent probe.Clocks
			spent.Add(before, probe.Read(ctx, shard, c0.pid))
			b.report.Complain(c0.name, work.Wrong, work.Complaint)
			cpu, checks := spent.Process, float64(work.Latencies.TotalCount())
			if c0.ask != nil {
				cpu = spent.Self
			}
			if n > 0 {
				all[i].cpu = append(all[i].cpu, load.Micros(cpu)/checks)
				all[i].redis = append(all[i].redis, load.Micros(spent.Redis)/checks)
				all[i].trips = append(all[i].trips, float64(spent.Reads-1)/checks)
			}
		}
	}
	costs.Service = map[string]size.Cost{}
	for i, way := range size.Ways {
		a, z := all[i], all[i+len(size.Ways)]
		costs.Service[way] = size.Fit(median(a.cpu), 1/median(a.trips), median(z.cpu), 1/median(z.trips))
		if i == 0 {
			costs.Redis = size.Fit(median(a.redis), 1/median(a.trips), median(z.redis), 1/median(z.trips))
		}
	}
	const sessions = 50_000
	before := probe.RedisMemory(ctx, shard)
	b.Fill(ctx, c.cluster.URL, stage.NewSessions(sessions, false))
	load.Pause(ctx, 2*issuer.LeaseTTL) // until the leases of the backfills have expired
	costs.RedisSession = (probe.RedisMemory(ctx, shard) - before) / sessions
}

// calibrateLedger measures logins, refreshes, backfills and last-seen times, on tables of some 100 MB.
func (b *bench) calibrateLedger(ctx context.Context, fillfactor int, costs *size.Costs) {
	const grown, people, refreshes, backfills, touched, touches = 100_000, 200, 5, 5, 500, 8
	ledger, sp := b.Ledger(b.Latest), b.Claim(ctx)
	b.Say("filling Postgres")
	ledger.Grow(ctx, grown, must.Get(must.Get(hashing.NewHasher(10, nil)).Hash(ctx, load.Password)))
	costs.User, costs.Session, costs.Event = ledger.PerRow(ctx, "users"), ledger.PerRow(ctx, "sessions"), ledger.PerRow(ctx, "events")
	ledger.Scatter(ctx, fillfactor)
	var users []string
	for i := range people {
		users = append(users, fmt.Sprintf("user%d", 1+i*(grown/people)))
	}
	service := b.Service(ctx, b.Latest, sp.URL, nil, "SESSIOND_LIMITS=on", "SESSIOND_TRUSTED_PROXIES=127.0.0.0/8")
	postgres := probe.Parent(ledger.Backend(ctx))
	cs := must.Get(load.Dial(ctx, 1, service.Addr))
	b.Later(func() error { cs.Close(); return nil })

	// spend runs f and returns what n operations in it took, each.
	spend := func(n int, f func()) (cpu, redis, database, wal float64) {
		bytes := ledger.Position(ctx)
		s, p, r := probe.FamilyCPU(service.PID), probe.FamilyCPU(postgres), probe.Read(ctx, sp.Client, 0).Redis
		f()
		of := float64(n)
		cpu, database = load.Millis(probe.FamilyCPU(service.PID)-s)/of, load.Millis(probe.FamilyCPU(postgres)-p)/of
		redis = load.Micros(probe.Read(ctx, sp.Client, 0).Redis-r) / of
		return cpu, redis, database, (ledger.Position(ctx) - bytes) / of
	}
	// pages runs f and returns how many pages become dirty in each of n operations.
	pages := func(n int, f func()) float64 {
		ledger.Checkpoint(ctx)
		f()
		return ledger.DirtyPages(ctx) / float64(n)
	}
	var tokens []load.Tokens
	logins := func(users []string) func() {
		return func() {
			for i, user := range users {
				tokens = append(tokens, must.Get(cs[0].Login(user, len(tokens)+i)))
			}
		}
	}
	refresh := func() {
		for i := range tokens {
			tokens[i] = must.Get(cs[0].Refresh(tokens[i], i))
		}
	}

	b.Say("logins")
	must.Get(cs[0].Login(users[0], 0)) // prepares the statements
	costs.Login, _, costs.PostgresLogin.CPU, costs.PostgresLogin.WAL = spend(people/2, logins(users[:people/2]))
	costs.PostgresLogin.Pages = pages(people/2, logins(users[people/2:]))
	ledger.Scatter(ctx, fillfactor)
	b.Say("refreshes")
	refresh()
	costs.Refresh, costs.Limit, costs.PostgresRefresh.CPU, costs.PostgresRefresh.WAL = spend(refreshes*people, func() {
		for range refreshes {
			refresh()
		}
	})
	ledger.Scatter(ctx, fillfactor)
	costs.PostgresRefresh.Pages = pages(people, refresh)

	b.Say("last-seen times")
	ids, at := ledger.Sample(ctx, touched), time.Now()
	touch := func() {
		at = at.Add(2 * time.Minute)
		b.Touch(ctx, ids, at)
	}
	costs.PostgresUse.Pages = pages(touched, touch)
	_, _, costs.PostgresUse.CPU, costs.PostgresUse.WAL = spend(touches*touched, func() {
		for range touches {
			touch()
		}
	})

	b.Say("backfills")
	var requests []load.Request
	for _, t := range tokens {
		requests = append(requests, load.NewRequest(t.Access, ""))
	}
	check := func() {
		for i := range requests {
			must.Do(cs[0].Check(&requests[i], false))
		}
	}
	check()
	warm, _, _, _ := spend(people, check)
	cold, _, _, _ := spend(backfills*people, func() {
		for range backfills {
			must.Do(sp.Forget(ctx))
			check()
		}
	})
	costs.Backfill = math.Max(0.01, cold-warm)
}

func median(values []float64) float64 {
	values = slices.Clone(values)
	slices.Sort(values)
	return values[len(values)/2]
}
