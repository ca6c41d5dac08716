package main

import (
	"fmt"
	"math"
)

// threshold is a promise that a figure has to keep.
type threshold struct {
	what   string
	atMost bool // else at least
	limit  float64
	aim    float64 // 0: none
	figure figure
	format string // of the figure and the limit
}

// figure is looked up in a report; ok is false when it was not measured.
type figure func(r *report) (value float64, ok bool)

// verdict is a threshold beside what was measured.
type verdict struct {
	What   string  `json:"what"`
	Limit  string  `json:"limit"`
	Figure float64 `json:"figure"`
	Holds  bool    `json:"holds"`
	Aim    string  `json:"aim,omitempty"`
	Aimed  bool    `json:"reaches_aim,omitempty"`
	text   string  // the figure
}

// thresholds are all of them; those that a run has not measured are not judged.
// 64 connections, EdDSA and warm tokens unless said.
func thresholds(r *report) []threshold {
	const ratio, times, bytes, number = "%.3f", "%.2f ×", "%.0f bytes", "%.0f"
	list := []threshold{
		{what: "rate of /v1/verify to the empty handler's", limit: 0.55, aim: 0.70, format: times, figure: overWire(64, warm, rate, verify, empty)},
		{what: "rate of /v1/verify to the empty handler's, 256 connections", limit: 0.55, aim: 0.70, format: times, figure: overWire(256, warm, rate, verify, empty)},
		{what: "rate of /v1/verify to the plain design's", limit: 2.8, aim: 3.4, format: times, figure: overWire(64, warm, rate, verify, plain)},
		{what: "rate of /v1/verify to the plain design's, 256 connections", limit: 2.8, aim: 3.4, format: times, figure: overWire(256, warm, rate, verify, plain)},
		{what: "CPU of the service for a check to the empty handler's", atMost: true, limit: 1.9, format: times, figure: overWire(64, warm, cpu, verify, empty)},
		{what: "CPU of Redis for a check to the plain design's", atMost: true, limit: 0.4, format: times, figure: overWire(64, warm, redisCPU, verify, plain)},
		{what: "Redis round trips for a check, 1 connection, at least", limit: 0.995, format: "%.3f", figure: readsOf(1)},
		{what: "Redis round trips for a check, 1 connection, at most", atMost: true, limit: 1.005, format: "%.3f", figure: readsOf(1)},
		{what: "Redis round trips for a check", atMost: true, limit: 0.2, format: "%.3f", figure: readsOf(64)},
		{what: "rate of /v1/verify to the plain design's, every token new", limit: 1.0, format: times, figure: overWire(64, fresh, rate, verify, plain)},
		{what: "rate in-process to unbatched, 1 goroutine", limit: 0.97, format: ratio, figure: batching(1, rate)},
		{what: "p50 in-process to unbatched, 1 goroutine", atMost: true, limit: 1.05, format: ratio, figure: batching(1, p50)},
		{what: "rate in-process to unbatched, 2 goroutines", limit: 0.97, format: ratio, figure: batching(2, rate)},
		{what: "p50 in-process to unbatched, 2 goroutines", atMost: true, limit: 1.05, format: ratio, figure: batching(2, p50)},
		{what: "rate in-process to /v1/verify's", limit: 4, format: times, figure: overWire(64, warm, rate, inProcess, verify)},
		{what: "allocations of a warm check outside go-redis", atMost: true, limit: 2, format: "%.1f", figure: func(r *report) (float64, bool) {
			if r.Comparison == nil {
				return 0, false
			}
			return r.Comparison.Allocations.Check - r.Comparison.Allocations.GoRedis, true
		}},
		{what: "memory: the service, resident", atMost: true, limit: 200e6, format: bytes, figure: func(r *report) (float64, bool) {
			if r.Memory == nil {
				return 0, false
			}
			return float64(r.Memory.Resident), true
		}},
		{what: "memory: Redis, for a session", atMost: true, limit: 375, aim: 320, format: bytes, figure: func(r *report) (float64, bool) {
			if r.Memory == nil {
				return 0, false
			}
			return r.Memory.PerSession, true
		}},
	}
	if g := r.Growth; g != nil {
		noise := g.noise()
		for _, p := range g.Points[1:] {
			if p.again {
				continue
			}
			list = append(list, threshold{
				what: "growth: rate with " + p.Name + " to " + g.Points[0].Name + ", less the noise", limit: 1 - noise, format: ratio,
				figure: func(*report) (float64, bool) {
					against, ok := g.Setting.ratio(rate, p.Name, g.Points[0].Name)
					return against.Median, ok
				},
			})
		}
	}
	for _, v := range r.Vanishing {
		list = append(list,
			threshold{what: "vanish, " + v.Name + ": wrong answers", atMost: true, limit: 0, format: number, figure: fixed(float64(v.Wrong))},
			threshold{what: "vanish, " + v.Name + ": longest wait", atMost: true, limit: v.Deadline + 10, format: "%.0f ms", figure: fixed(v.Longest)},
			threshold{what: "vanish, " + v.Name + ": goroutines left behind", atMost: true, limit: 0, format: number, figure: fixed(float64(v.GoroutinesAfter - v.GoroutinesBefore))},
		)
	}
	for i := range r.Storms {
		list = append(list, stormThresholds(&r.Storms[i])...)
	}
	return list
}

func fixed(value float64) figure { return func(*report) (float64, bool) { return value, true } }

// overWire is a ratio of two contenders in a setting of compare.
func overWire(connections int, tokens string, of func(*sample) float64, name, to string) figure {
	return func(r *report) (float64, bool) {
		if r.Comparison == nil {
			return 0, false
		}
		t := r.Comparison.find(connections, defaultAlg, tokens)
		if t == nil {
			return 0, false
		}
		s, ok := t.ratio(of, name, to)
		return s.Median, ok
	}
}

func readsOf(connections int) figure {
	return func(r *report) (float64, bool) {
		if r.Comparison == nil {
			return 0, false
		}
		if t := r.Comparison.find(connections, defaultAlg, warm); t != nil {
			return t.row(verify).Median.RedisReads, true
		}
		return 0, false
	}
}

// batching is a ratio of the verifier to the same without batching.
func batching(goroutines int, of func(*sample) float64) figure {
	return func(r *report) (float64, bool) {
		if r.Comparison == nil {
			return 0, false
		}
		t := r.Comparison.direct(goroutines)
		if t == nil || t.Alg != defaultAlg {
			return 0, false
		}
		s, ok := t.ratio(of, inProcess, unbatched)
		return s.Median, ok
	}
}

// noise is how far the same measured twice was apart, in the round in which it
// was farthest; at least what seven rounds cannot tell from nothing, and at most
// what can still be called flat.
func (g *growing) noise() float64 {
	const least, most = 0.02, 0.10
	again := g.Points[len(g.Points)-1].Name
	s, ok := g.Setting.ratio(rate, again, g.Points[0].Name)
	if !ok {
		return least
	}
	return min(most, max(least, math.Abs(1-s.Least), math.Abs(s.Most-1)))
}

// judge holds the report to the thresholds.
func (r *report) judge() {
	for _, t := range thresholds(r) {
		value, ok := t.figure(r)
		if !ok {
			continue
		}
		sign, holds, aimed := "≥", value >= t.limit, value >= t.aim
		if t.atMost {
			sign, holds, aimed = "≤", value <= t.limit, value <= t.aim
		}
		v := verdict{What: t.what, Limit: sign + " " + fmt.Sprintf(t.format, t.limit), Figure: value, Holds: holds, text: fmt.Sprintf(t.format, value)}
		if t.aim != 0 {
			v.Aim, v.Aimed = fmt.Sprintf(t.format, t.aim), aimed
		}
		r.Verdicts = append(r.Verdicts, v)
	}
}

func (r *report) missed() int {
	n := 0
	for _, v := range r.Verdicts {
		if !v.Holds {
			n++
		}
	}
	return n
}
