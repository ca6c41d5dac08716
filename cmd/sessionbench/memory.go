package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// memoryUse is what memory finds. Sizes are bytes.
type memoryUse struct {
	Sessions   int     `json:"sessions"`
	Idle       int64   `json:"service_idle_bytes"`
	Resident   int64   `json:"service_resident_bytes"` // when each session was checked once
	Peak       int64   `json:"service_peak_bytes"`
	PerSession float64 `json:"redis_bytes_per_session"` // for what a session and its user's generation take
}

// memory fills a Redis with live sessions of as many users and has the service
// check each of them once.
func memory(ctx context.Context, s *stage, r *report) error {
	return s.scope(func(s *stage) (err error) {
		r.Memory, err = s.memory(ctx, r)
		return err
	})
}

func (s *stage) memory(ctx context.Context, r *report) (*memoryUse, error) {
	m := &memoryUse{Sessions: s.Memory}
	sp, err := s.claimed(ctx)
	if err != nil {
		return nil, err
	}
	before, err := readRedis(ctx, sp.client)
	if err != nil {
		return nil, err
	}
	refs := newSessions(s.Memory)
	s.say("putting %s into Redis", count(s.Memory, "session"))
	if err := sp.fill(ctx, refs, func(done int) { s.say("%d of %d are in Redis", done, s.Memory) }); err != nil {
		return nil, err
	}
	after, err := readRedis(ctx, sp.client)
	if err != nil {
		return nil, err
	}
	m.PerSession = float64(after.used-before.used) / float64(s.Memory)

	service, err := s.service(ctx, sp.url, sp.prefix)
	if err != nil {
		return nil, err
	}
	pid := service.cmd.Process.Pid
	if m.Idle, _, err = processMemory(pid); err != nil {
		return nil, err
	}
	var cs clients
	defer func() { cs.close() }()
	k := s.keys[defaultAlg]
	checked := 0
	const at = 100_000 // tokens made at a time: they would fill the memory of the machine
	for checked < len(refs) {
		part := refs[checked:min(checked+at, len(refs))]
		requests, err := k.mintAll(ctx, part, len(part))
		if err != nil {
			return nil, err
		}
		if cs == nil {
			if cs, err = dialAll(ctx, service.addr, principal); err != nil {
				return nil, err
			}
		}
		w, err := s.askOnce(ctx, cs, requests)
		if err != nil {
			return nil, err
		}
		r.complain("memory", &w)
		if w.checks != len(part) {
			return nil, errors.New("memory: not every session was checked")
		}
		checked += w.checks
		s.say("%d of %d are checked, at %.0f a second", checked, len(refs), float64(w.checks)/w.took.Seconds())
	}
	if m.Resident, m.Peak, err = processMemory(pid); err != nil {
		return nil, err
	}
	return m, nil
}

// askOnce asks every request once.
func (s *stage) askOnce(ctx context.Context, cs clients, requests []request) (work, error) {
	const long = 10 * time.Minute // for 100,000 checks
	defer cs.bound(ctx, long)()
	w, err := drive(ctx, len(cs), long, &supply{requests: requests, once: true}, overHTTP(cs, true))
	if err != nil {
		return w, fmt.Errorf("check every session once: %w", err)
	}
	return w, nil
}
