package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// cannedStorm has a round of every scene, whose checks took so much longer beside a flood.
func cannedStorm(name string, longer float64) storming {
	st := storming{Name: name}
	for _, p := range new(config).plans() {
		w := weather{P50: 1, P99: 2, Rate: 500, Resident: 90, checks: []time.Duration{2 * time.Millisecond}}
		if p.flood != nil {
			w.P99 *= 1.5 * longer
			w.Share = 0.8
			w.Logins = &logins{SignedIn: 250, Shed: 40, Longest: 2200, LongestShed: 12}
		}
		if p.visitors > 0 {
			w.Others = &logins{waits: []time.Duration{time.Second}}
		}
		st.Scenes = append(st.Scenes, scene{Name: p.name, Rounds: []weather{w}})
	}
	return st
}

// canned is a report with figures of every kind.
func canned() *report {
	rows := func(rates map[string]float64, order ...string) []row {
		var list []row
		for _, name := range order {
			r := row{Name: name}
			for round := range 3 {
				f := rates[name] * (1 + 0.02*float64(round))
				r.Rounds = append(r.Rounds, sample{Checks: int(f), Rate: f, P50: 1e6 / f, P99: 5e6 / f, CPU: 4e5 / f, RedisCPU: 1e5 / f, RedisReads: 1000 / f})
			}
			r.summarize()
			list = append(list, r)
		}
		return list
	}
	web := func(name string, n int, tokens string) setting {
		t := setting{Name: name, Callers: n, Alg: defaultAlg, Tokens: tokens, Against: []string{empty, plain}}
		t.Rows = rows(map[string]float64{empty: 40000, plain: 8000, verify: 26000, emptyAgain: 41000, inProcess: 120000}, empty, plain, verify, emptyAgain, inProcess)
		return t.withRatios()
	}
	alone := setting{Name: "without HTTP, 1 goroutine", Callers: 1, Alg: defaultAlg, Tokens: warm, Against: []string{unbatched}}
	alone.Rows = rows(map[string]float64{inProcess: 19000, unbatched: 20000}, inProcess, unbatched)
	points := populations([]int{1000, 1_000_000}, 10_000)
	grown := setting{Name: "growth <&>", Callers: 64, Alg: defaultAlg, Tokens: warm, Against: []string{points[0].Name}}
	grown.Rows = rows(map[string]float64{points[0].Name: 1000, points[1].Name: 990, points[2].Name: 800, points[3].Name: 1010},
		points[0].Name, points[1].Name, points[2].Name, points[3].Name)
	r := &report{
		Machine: machine{CPU: "A <CPU> & more", Cores: 2, Kernel: "6.1", Go: "go1.26", Redis: "7.0.15", Postgres: "15.18"},
		Config:  config{Rounds: 3, Round: time.Second, Algorithms: words{defaultAlg}, Duration: time.Minute},
		Comparison: &comparison{
			Settings:  []setting{web("64 connections", 64, warm), web("64 connections, new", 64, fresh)},
			InProcess: []setting{alone.withRatios()}, Allocations: allocations{Check: 28, GoRedis: 26}, Resident: 50e6,
		},
		Memory:    &memoryUse{Sessions: 1_000_000, Idle: 20e6, Resident: 190e6, Peak: 195e6, PerSession: 381},
		Growth:    &growing{Setting: grown.withRatios(), Points: points},
		Vanishing: []vanishing{{Name: verify, Checks: 1000, Vanished: 50, Longest: 170, Deadline: 150, GoroutinesBefore: 17, GoroutinesAfter: 17}},
		Storms:    []storming{cannedStorm("one replica", 1)},
		Others:    others{Share: 0.07, wall: time.Second},
	}
	r.judge()
	return r
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := canned().print(&out); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "report.txt")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("the table has changed; go test -update writes it anew\n%s", out.String())
	}
}

// What is promised is judged by the figure that the promise names.
func TestVerdicts(t *testing.T) {
	r := canned()
	got := map[string]bool{}
	for _, v := range r.Verdicts {
		got[v.What] = v.Holds
	}
	for what, holds := range map[string]bool{
		"rate of /v1/verify to the empty handler's":                                     true,  // 0.65
		"rate of /v1/verify to the plain design's":                                      true,  // 3.25
		"rate of /v1/verify to the plain design's, every token new":                     true,  // 3.25
		"rate in-process to /v1/verify's":                                               true,  // 4.6
		"rate in-process to unbatched, 1 goroutine":                                     false, // 0.95
		"p50 in-process to unbatched, 1 goroutine":                                      false, // 1.053
		"CPU of the service for a check to the empty handler's":                         true,  // 1.54
		"CPU of Redis for a check to the plain design's":                                true,  // 0.31
		"Redis round trips for a check":                                                 true,  // 0.04
		"allocations of a warm check outside go-redis":                                  true,  // 2
		"memory: the service, resident":                                                 true,
		"memory: Redis, for a session":                                                  false, // 381
		"growth: rate with 1000000 sessions to 1000 sessions, less the noise":           true,  // 0.99
		"growth: rate with 10000 of one user to 1000 sessions, less the noise":          false, // 0.80
		"vanish, /v1/verify: wrong answers":                                             true,
		"vanish, /v1/verify: longest wait":                                              false, // 170 ms after 150
		"vanish, /v1/verify: goroutines left behind":                                    true,
		"storm, one replica, check p99 beside 64 clients, to calm":                      true,  // 1.5
		"storm, one replica, logins of 64 clients, to the bcrypt limit":                 true,  // 0.80
		"storm, one replica, logins without checks, to the bcrypt limit":                false, // 0.80
		"storm, one replica, check p99 beside a crowd, to calm":                         true,
		"storm, one replica, logins of a crowd, to the bcrypt limit":                    true,
		"storm, one replica, longest answer to one of a crowd":                          true,
		"storm, one replica, longest answer to one of a crowd that was turned away":     true,
		"storm, one replica, /livez failed":                                             true,
		"storm, one replica, check p99 beside those who come back at once, to calm":     true,
		"storm, one replica, rate of checks beside 16 flooders, to that without":        true,
		"storm, one replica, logins beside checks at full speed, to the bcrypt limit":   true,
		"storm, one replica, unanswered of 10,000 at once":                              true,
		"storm, one replica, back to normal after 10,000 at once":                       true,
		"storm, one replica, resident, with the process that hashes":                    true,
		"storm, one replica, people at other addresses who sign in within 5 s, round 1": false, // one of 100
	} {
		judged, ok := got[what]
		if !ok || judged != holds {
			t.Errorf("%s: judged %t, holds %t; want %t", what, ok, judged, holds)
		}
		delete(got, what)
	}
	for what := range got {
		t.Errorf("%s: judged, and not measured", what) // as 256 connections
	}
	if missed := r.missed(); missed != 7 {
		t.Errorf("%d missed", missed)
	}
}

func TestPlotsAreXML(t *testing.T) {
	for name, plot := range map[string][]byte{"comparison": plotComparison(canned()), "growth": plotGrowth(canned()), "storm": plotStorms(canned())} {
		texts := ""
		for d := xml.NewDecoder(bytes.NewReader(plot)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, plot)
			}
			if text, ok := token.(xml.CharData); ok {
				texts += string(text) + "\n"
			}
		}
		if !strings.Contains(texts, "A <CPU> & more") || strings.Contains(texts, "NaN") {
			t.Errorf("%s says:\n%s", name, texts)
		}
	}
}

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	c := config{jsonFile: filepath.Join(dir, "b.json"), svgFile: filepath.Join(dir, "b.svg")}
	if err := canned().publish(c, io.Discard); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Comparison struct {
			Settings []struct {
				Rows []struct{ Rounds []map[string]float64 }
			}
		}
	}
	data, err := os.ReadFile(c.jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if rounds := back.Comparison.Settings[0].Rows[0].Rounds; len(rounds) != 3 || rounds[0]["checks_per_second"] != 40000 {
		t.Errorf("the JSON lacks its rounds: %v", rounds)
	}
	for _, name := range []string{"b.svg", "b-growth.svg"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
