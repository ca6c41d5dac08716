package main

import (
	"context"
	"fmt"

	"github.com/sessiond/sessiond/session"
)

// defaultAlg is that of the service.
const defaultAlg = session.AlgEdDSA

// growing is what growth finds: one setting whose contenders are services on
// Redis databases of different sizes.
type growing struct {
	Setting setting      `json:"setting"`
	Points  []population `json:"points"`
}

// population is one contender of growth.
type population struct {
	Name     string `json:"name"` // of its row
	Sessions int    `json:"sessions"`
	OneUser  bool   `json:"one_user"` // they are all of one
	again    bool   // the first once more: the noise
}

// populations are those of these sizes and one of a single user.
func populations(sizes []int, crowd int) []population {
	var ps []population
	for _, n := range sizes {
		ps = append(ps, population{Name: count(n, "session"), Sessions: n})
	}
	return append(ps,
		population{Name: fmt.Sprintf("%d of one user", crowd), Sessions: crowd, OneUser: true},
		population{Name: ps[0].Name + " again", Sessions: sizes[0], again: true})
}

// growth compares the rate of checks by how much is in Redis. Each size has a
// database and a service of its own; the sessions that are asked for are as
// many everywhere, spread evenly, so that nothing but the size differs.
func growth(ctx context.Context, s *stage, r *report) error {
	return s.scope(func(s *stage) (err error) {
		r.Growth, err = s.growth(ctx, r)
		return err
	})
}

func (s *stage) growth(ctx context.Context, r *report) (*growing, error) {
	g := &growing{Points: populations(s.Growth, s.Crowd)}
	var contenders []contender
	var first *space
	var asked []request
	for _, p := range g.Points {
		sp := first
		if !p.again {
			var err error
			if sp, asked, err = s.populate(ctx, p); err != nil {
				return nil, err
			}
			if first == nil {
				first = sp
			}
		} else {
			asked = contenders[0].own
		}
		service, err := s.service(ctx, sp.url, sp.prefix)
		if err != nil {
			return nil, err
		}
		c := served(p.Name, service, principal, true)
		c.own = asked
		contenders = append(contenders, c)
	}
	t, err := s.interleave(ctx, r, setting{
		Name:    fmt.Sprintf("/v1/verify by the sessions in Redis, %s, warm tokens, %s", defaultAlg, count(principal, "connection")),
		Callers: principal, Alg: defaultAlg, Tokens: warm, Against: []string{g.Points[0].Name},
	}, nil, contenders)
	g.Setting = t
	return g, err
}

// populate fills a database and makes tokens of some of what is in it.
func (s *stage) populate(ctx context.Context, p population) (*space, []request, error) {
	sp, err := s.claimed(ctx)
	if err != nil {
		return nil, nil, err
	}
	s.say("putting %s into Redis", p.Name)
	refs := newSessions(p.Sessions)
	if p.OneUser {
		refs = sessionsOfOne(p.Sessions)
	}
	if err := sp.fill(ctx, refs, func(done int) { s.say("%d of %d are in Redis", done, p.Sessions) }); err != nil {
		return nil, nil, err
	}
	k := s.keys[defaultAlg]
	picked := spreadOver(refs, s.Sessions)
	requests, err := k.mintAll(ctx, picked, len(picked))
	return sp, requests, err
}
