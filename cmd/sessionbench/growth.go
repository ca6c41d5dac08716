package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
)

const defaultAlg = "EdDSA" // of sessiond

// growth compares the rate of checks by the number of sessions in Redis. Each number has a database
// and a service of its own. As many sessions are checked everywhere, spread evenly, so that nothing
// but the number differs.
func (b *bench) growth(ctx context.Context) error {
	var contenders []contender
	var first *stage.Space
	add := func(name string, sp *stage.Space, sessions int, oneUser bool, requests []load.Request) error {
		p, err := b.Service(ctx, b.Latest(), sp.URL, nil)
		if err != nil {
			return err
		}
		c := b.served(name, p, principal, true)
		c.sessions, c.oneUser, c.requests = sessions, oneUser, requests
		contenders = append(contenders, c)
		return nil
	}
	for i, n := range append(b.GrowthSessions, b.GrowthUser) {
		name, oneUser := count(n, "session"), i == len(b.GrowthSessions)
		if oneUser {
			name = fmt.Sprintf("%d of one user", n)
		}
		sp, refs, err := b.populate(ctx, n, oneUser)
		if err != nil {
			return err
		}
		if first == nil {
			first = sp
		}
		picked := stage.Pick(refs, b.Sessions)
		requests, err := b.Keys.Mint(ctx, defaultAlg, picked, len(picked))
		if err != nil {
			return err
		}
		if err := add(name, sp, n, oneUser, requests); err != nil {
			return err
		}
	}
	if err := add(again(contenders[0].name), first, contenders[0].sessions, false, contenders[0].requests); err != nil {
		return err
	}
	return b.takeTurns(ctx, first.Client, report.Table{
		Part: report.Growth, Name: fmt.Sprintf("/v1/verify by the sessions in Redis, %s, warm tokens, %s", defaultAlg, count(principal, "connection")),
		Callers: principal, Alg: defaultAlg, Tokens: report.Warm, Against: []string{contenders[0].name},
	}, nil, false, contenders)
}

// populate fills a database of Redis with n sessions.
func (b *bench) populate(ctx context.Context, n int, oneUser bool) (*stage.Space, []stage.Ref, error) {
	sp, err := b.Claim(ctx, b.RedisURL)
	if err != nil {
		return nil, nil, err
	}
	refs := stage.NewSessions(n, oneUser)
	b.Say("putting %s into Redis", count(n, "session"))
	return sp, refs, sp.Fill(ctx, refs, func(done int) { b.Say("%d of %d are in Redis", done, n) })
}

// memory fills a Redis with live sessions of as many users and has the service check each once.
func (b *bench) memory(ctx context.Context) error {
	empty, err := b.Claim(ctx, b.RedisURL)
	if err != nil {
		return err
	}
	before, err := probe.RedisMemory(ctx, empty.Client)
	if err != nil {
		return err
	}
	sp, refs, err := b.populate(ctx, b.MemorySessions, false)
	if err != nil {
		return err
	}
	after, err := probe.RedisMemory(ctx, sp.Client)
	if err != nil {
		return err
	}
	service, err := b.Service(ctx, b.Latest(), sp.URL, nil)
	if err != nil {
		return err
	}
	idle, _, err := probe.Memory(service.PID())
	if err != nil {
		return err
	}
	cs, err := load.DialAll(ctx, principal, service.Addr)
	if err != nil {
		return err
	}
	defer cs.Close()
	const chunk = 100_000 // tokens made at a time, because all of them would fill the machine's memory
	for done := 0; done < len(refs); done += chunk {
		part := refs[done:min(done+chunk, len(refs))]
		requests, err := b.Keys.Mint(ctx, defaultAlg, part, len(part))
		if err != nil {
			return err
		}
		w, err := b.checkOnce(ctx, cs, requests)
		if err != nil {
			return err
		}
		if w.Checks() != int64(len(part)) {
			return errors.New("not every session was checked")
		}
		b.Say("%d of %d are checked, at %.0f a second", done+len(part), len(refs), w.Rate())
	}
	resident, peak, err := probe.Memory(service.PID())
	b.report.Add(report.Table{
		Part: report.Memory, Name: fmt.Sprintf("%d live sessions, each checked once", len(refs)),
		Rows: []report.Row{{Name: report.Verify, Rounds: []report.Figures{{
			report.Idle: idle, report.Resident: resident, report.Peak: peak, report.PerSession: float64(after-before) / float64(len(refs)),
		}}}},
	})
	return err
}

// checkOnce makes every check once.
func (b *bench) checkOnce(ctx context.Context, cs load.Clients, requests []load.Request) (*load.Work, error) {
	const long = 10 * time.Minute // for 100,000 checks
	defer cs.Bound(ctx, long)()
	w := load.NewWork()
	err := load.Drive(ctx, len(cs), long, &load.Supply{Requests: requests, Once: true}, cs.Ask(true), w)
	b.report.Complain("a check of each session", w.Wrong, w.Complaint)
	return w, err
}
