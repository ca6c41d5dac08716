package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"time"
)

// The ceiling: how fast this Redis answers three keys when nothing but Redis's own
// benchmark asks, with pipelines and connections enough.
const (
	ceilingClients  = 64
	ceilingPipeline = 16
)

// ceiling is redis-benchmark as a contender; ok is false when there is none.
func (s *stage) ceiling() (c contender, ok bool) {
	program, err := exec.LookPath(s.redisBenchmark)
	if err != nil {
		s.say("NOT MEASURED: %s, the rate that Redis itself reaches, because there is no program %s", ceilingName, s.redisBenchmark)
		return contender{}, false
	}
	options := s.space.client.Options()
	host, port, err := net.SplitHostPort(options.Addr)
	if err != nil {
		return contender{}, false
	}
	args := []string{
		"-h", host, "-p", port, "--dbnum", strconv.Itoa(options.DB), "--csv", "--precision", "3",
		"-c", strconv.Itoa(ceilingClients), "-P", strconv.Itoa(ceilingPipeline),
	}
	if options.Password != "" {
		args = append(args, "-a", options.Password)
	}
	if options.Username != "" {
		args = append(args, "--user", options.Username)
	}
	generation, entry, blacklist := s.space.ceilingKeys()
	expected := 100_000.0
	return contender{name: ceilingName, blind: true, whole: true, load: func(ctx context.Context, d time.Duration, _ *supply) (work, error) {
		n := max(int(expected*d.Seconds()), ceilingClients*ceilingPipeline)
		command := append(args[:len(args):len(args)], "-n", strconv.Itoa(n), "MGET", generation, entry, blacklist)
		out, err := exec.CommandContext(ctx, program, command...).Output() //nolint:gosec // G204: a program of Redis's
		if err != nil {
			return work{}, fmt.Errorf("%s: %w", program, err)
		}
		w, err := parseCeiling(out, n)
		if err == nil {
			expected = float64(n) / w.took.Seconds()
		}
		return w, err
	}}, true
}

// ceilingKeys are what a check asks for; there is nothing on the blacklist.
func (s *space) ceilingKeys() (generation, entry, blacklist string) {
	return s.prefix + "ceiling:g", s.prefix + "ceiling:s", s.prefix + "ceiling:b"
}

// parseCeiling reads the CSV of redis-benchmark: a line of names, a line of figures.
func parseCeiling(out []byte, n int) (work, error) {
	lines, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil || len(lines) != 2 {
		return work{}, errors.Join(errors.New("redis-benchmark did not answer with two lines of CSV"), err)
	}
	figure := map[string]float64{}
	for i, name := range lines[0] {
		figure[name], _ = strconv.ParseFloat(lines[1][i], 64) // 0 where it is no number
	}
	if figure["rps"] <= 0 {
		return work{}, errors.New("redis-benchmark told no rate")
	}
	millis := func(name string) time.Duration { return time.Duration(figure[name] * float64(time.Millisecond)) }
	return work{
		checks: n, took: time.Duration(float64(n) / figure["rps"] * float64(time.Second)),
		p50: millis("p50_latency_ms"), p99: millis("p99_latency_ms"),
	}, nil
}
