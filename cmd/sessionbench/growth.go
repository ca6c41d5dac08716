package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
	"github.com/sessiond/sessiond/session"
)

// populate fills a database of Redis with n sessions.
func (b *bench) populate(ctx context.Context, n int, oneUser bool) (*stage.Space, []session.Ref) {
	sp, refs := b.Claim(ctx), stage.NewSessions(n, oneUser)
	b.Fill(ctx, sp, refs)
	return sp, refs
}

// growth compares the rate of checks by the number of sessions in Redis. Each number has a database
// and a service of its own. As many sessions are checked everywhere, spread evenly, so that nothing
// but the number differs.
func (b *bench) growth(ctx context.Context) {
	var contenders []contender
	var first *stage.Space
	for i, n := range append(slices.Clone(b.GrowthSessions), b.GrowthUser) {
		name, oneUser := count(n, "session"), i == len(b.GrowthSessions)
		if oneUser {
			name = fmt.Sprintf("%d of one user", n)
		}
		sp, refs := b.populate(ctx, n, oneUser)
		if i == 0 {
			first = sp
		}
		c := b.served(name, b.Service(ctx, b.Latest(), sp.URL, nil), principal, true)
		c.requests = b.Keys.Mint(ctx, session.AlgEdDSA, stage.Pick(refs, b.Sessions), min(n, b.Sessions))
		contenders = append(contenders, c)
	}
	c := b.served(again(contenders[0].name), b.Service(ctx, b.Latest(), first.URL, nil), principal, true)
	c.requests = contenders[0].requests
	b.takeTurns(ctx, first, report.Table{
		Part: report.Growth, Name: fmt.Sprintf("/v1/verify by the sessions in Redis, EdDSA, warm tokens, %s", count(principal, "connection")),
		Callers: principal, Alg: session.AlgEdDSA, Tokens: report.Warm, Against: []string{contenders[0].name},
	}, nil, false, append(contenders, c)...)
}

// memory fills a Redis with live sessions of as many users and has the service check each once.
func (b *bench) memory(ctx context.Context) {
	before := probe.RedisMemory(ctx, b.Redis)
	sp, refs := b.populate(ctx, b.MemorySessions, false)
	after := probe.RedisMemory(ctx, b.Redis)
	service := b.Service(ctx, b.Latest(), sp.URL, nil)
	idle, _ := probe.Memory(service.PID())
	cs := must.Get(load.Dial(ctx, principal, service.Addr))
	defer cs.Close()
	done := 0
	for part := range slices.Chunk(refs, 100_000) { // all tokens would fill the machine's memory
		w := b.checkOnce(ctx, cs, b.Keys.Mint(ctx, session.AlgEdDSA, part, len(part)))
		done += len(part)
		b.Say("%d of %d are checked, at %.0f a second", done, len(refs), w.Rate())
	}
	resident, peak := probe.Memory(service.PID())
	b.report.Add(report.Table{
		Part: report.Memory, Name: fmt.Sprintf("%d live sessions, each checked once", len(refs)),
		Rows: []report.Row{{Name: report.Verify, Rounds: []report.Figures{{
			report.IdleMB: idle, report.ResidentMB: resident, report.PeakMB: peak, report.PerSession: (after - before) / float64(len(refs)),
		}}}},
	})
}

// checkOnce makes every check once.
func (b *bench) checkOnce(ctx context.Context, cs load.Clients, requests []load.Request) *load.Work {
	const long = 10 * time.Minute // for 100,000 checks
	defer cs.Bound(ctx, long)()
	w := load.NewWork()
	must.Do(load.Drive(ctx, len(cs), long, &load.Supply{Requests: requests, Once: true}, cs.Ask(true), w))
	b.report.Complain("a check of each session", w.Wrong, w.Complaint)
	if int(w.Latencies.TotalCount()) != len(requests) {
		must.Do(errors.New("not every session was checked"))
	}
	return w
}
