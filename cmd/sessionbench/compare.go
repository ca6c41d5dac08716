package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
)

// The contenders.
const (
	empty          = "empty"
	emptyAgain     = "empty again" // a second process of the same: the noise
	plain          = "plain"
	verify         = "/v1/verify"
	inProcess      = "in-process"
	unbatched      = "in-process, unbatched"
	unbatchedAgain = "unbatched again"
	ceilingName    = "redis-benchmark"
)

// comparison is what compare finds.
type comparison struct {
	Settings    []setting   `json:"settings"`
	InProcess   []setting   `json:"in_process"` // batched against unbatched, by goroutines
	Allocations allocations `json:"allocations"`
	Resident    int64       `json:"service_resident_bytes"` // at the end
}

// find returns the setting, nil when it was not measured.
func (c *comparison) find(callers int, alg, tokens string) *setting {
	for i := range c.Settings {
		if t := &c.Settings[i]; t.Callers == callers && t.Alg == alg && t.Tokens == tokens {
			return t
		}
	}
	return nil
}

func (c *comparison) direct(callers int) *setting {
	for i := range c.InProcess {
		if c.InProcess[i].Callers == callers {
			return &c.InProcess[i]
		}
	}
	return nil
}

// principal is the number of connections at which everything is measured.
const principal = 64

func (c *config) principal() int {
	if slices.Contains(c.Connections, principal) {
		return principal
	}
	return c.Connections[len(c.Connections)-1]
}

// plan lists the settings behind HTTP.
func (c *config) plan() []setting {
	var plan []setting
	add := func(n int, alg, tokens string) {
		plan = append(plan, setting{
			Name: fmt.Sprintf("%s, %s tokens, %s", alg, tokens, count(n, "connection")), Callers: n, Alg: alg, Tokens: tokens,
			Against: []string{empty, plain},
		})
	}
	for _, tokens := range c.Tokens {
		for i, alg := range c.Algorithms {
			if i > 0 || tokens == fresh {
				add(c.principal(), alg, tokens)
				continue
			}
			for _, n := range c.Connections {
				add(n, alg, tokens)
			}
		}
	}
	return plan
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// compare has the service, the baselines and the verifier take turns.
func compare(ctx context.Context, s *stage, r *report) error {
	r.Comparison = &comparison{}
	return s.scope(func(s *stage) error { return s.compare(ctx, r) })
}

// arena is who takes part.
type arena struct {
	empty, emptyAgain, plain, service *process
	batched, unbatched, again         *session.Verifier
	refs                              []session.Ref
}

func (s *stage) compare(ctx context.Context, r *report) error {
	a, err := s.openArena(ctx)
	if err != nil {
		return err
	}
	plan := s.plan()
	turns := (s.Rounds+1)*(4*len(plan)+3) + 3*s.Rounds*(1+fineRounds*(len(directCallers)-1))
	s.say("%d settings, about %v", len(plan)+len(directCallers), (time.Duration(turns) * s.Round * 5 / 4).Round(time.Second))
	for _, t := range plan {
		first := t.Callers == s.principal() && t.Alg == s.Algorithms[0] && t.Tokens == warm
		if t, err = s.compareHTTP(ctx, r, a, t, first); err != nil {
			return err
		}
		r.Comparison.Settings = append(r.Comparison.Settings, t)
	}
	if r.Comparison.Resident, _, err = processMemory(a.service.cmd.Process.Pid); err != nil {
		return err
	}
	return s.compareDirect(ctx, r, a)
}

func (s *stage) openArena(ctx context.Context) (a *arena, err error) {
	a = &arena{refs: newSessions(s.Sessions)}
	s.say("putting %s into Redis", count(s.Sessions, "session"))
	if err := s.space.fill(ctx, a.refs, func(int) {}); err != nil {
		return nil, err
	}
	if err := s.fillPlain(ctx, a.refs); err != nil {
		return nil, err
	}
	for _, b := range []struct {
		name string
		into **process
	}{{empty, &a.empty}, {empty, &a.emptyAgain}, {plain, &a.plain}} {
		if *b.into, err = s.baseline(ctx, b.name); err != nil {
			return nil, err
		}
	}
	if a.service, err = s.service(ctx, s.space.url, s.space.prefix); err != nil {
		return nil, err
	}
	for _, v := range []struct {
		into    **session.Verifier
		options redisstore.Options
	}{{&a.batched, redisstore.Options{}}, {&a.unbatched, redisstore.Options{Unbatched: true}}, {&a.again, redisstore.Options{Unbatched: true}}} {
		if *v.into, err = s.verifier(s.space, v.options); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// fillPlain gives the plain design what it looks for, and redis-benchmark its three keys.
func (s *stage) fillPlain(ctx context.Context, refs []session.Ref) error {
	generation, entry, _ := s.space.ceilingKeys()
	if err := s.space.client.MSet(ctx, generation, "1", entry, "eleven byte").Err(); err != nil {
		return fmt.Errorf("put the ceiling's keys into Redis: %w", err)
	}
	const at = 1_000
	for chunk := range slices.Chunk(refs, at) {
		pipe := s.space.client.Pipeline()
		for _, ref := range chunk {
			pipe.Set(ctx, plainSession(s.space.prefix, ref.SessionID), "1", tokenTTL)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("put the plain design's sessions into Redis: %w", err)
		}
	}
	return nil
}

// compareHTTP measures one setting; with everybody, those without HTTP take turns, too.
func (s *stage) compareHTTP(ctx context.Context, r *report, a *arena, t setting, everybody bool) (setting, error) {
	var contenders []contender
	for _, c := range []struct {
		name  string
		p     *process
		blind bool
	}{{empty, a.empty, true}, {plain, a.plain, false}, {verify, a.service, false}, {emptyAgain, a.emptyAgain, true}} {
		one := served(c.name, c.p, t.Callers, c.name == verify)
		one.blind = c.blind
		contenders = append(contenders, one)
	}
	if everybody {
		contenders = append(contenders, direct(inProcess, a.batched, t.Callers), direct(unbatched, a.unbatched, t.Callers))
		if c, ok := s.ceiling(); ok {
			contenders = append(contenders, c)
		}
	}
	return s.interleave(ctx, r, t, a.refs, contenders)
}

// directCallers are the goroutines at which batching is compared to none.
var directCallers = []int{1, 2, 64}

func (s *stage) compareDirect(ctx context.Context, r *report, a *arena) error {
	for _, n := range directCallers {
		t := setting{
			Name: fmt.Sprintf("without HTTP, %s, warm tokens, %s", s.Algorithms[0], count(n, "goroutine")), Callers: n,
			Alg: s.Algorithms[0], Tokens: warm, Against: []string{unbatched}, fine: n < principal,
		}
		t, err := s.interleave(ctx, r, t, a.refs, []contender{
			direct(inProcess, a.batched, n), direct(unbatched, a.unbatched, n), direct(unbatchedAgain, a.again, n),
		})
		if err != nil {
			return err
		}
		r.Comparison.InProcess = append(r.Comparison.InProcess, t)
	}
	k := s.keys[s.Algorithms[0]]
	requests, err := k.mintAll(ctx, a.refs, len(a.refs))
	if err != nil {
		return err
	}
	r.Comparison.Allocations, err = s.countAllocations(ctx, a.batched, requests)
	return err
}
