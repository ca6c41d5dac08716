package report

import (
	"bytes"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "overwrite testdata/report.txt with the report of the tests")

// canned returns a report with invented figures for every measurement.
func canned() *Report {
	r := &Report{
		Machine: "A CPU, Linux 6.1, go1.26, Redis 7.0.15, PostgreSQL 15.18, 2 cores",
		Service: Verify + " after", Others: Others{Share: 0.07, wall: time.Second},
	}
	add := func(t Table, rates ...any) {
		t.Alg, t.Tokens, t.Round, t.Turn = "EdDSA", Warm, time.Second, 200*time.Millisecond
		for i := 0; i < len(rates); i += 2 {
			row := Row{Name: rates[i].(string)}
			for round := range 3 {
				f := rates[i+1].(float64) * (1 + 0.02*float64(round))
				row.Rounds = append(row.Rounds, Figures{Checks: f, Rate: f, P50: 1e6 / f, P99: 5e6 / f, CPU: 4e5 / f, RedisCPU: 1e5 / f, Trips: 1000 / f})
			}
			t.Rows = append(t.Rows, row)
		}
		r.Tables = append(r.Tables, t)
	}
	add(Table{Part: Compare, Name: "64 connections", Callers: 64, Against: []string{Empty, Plain, Verify + " before"}},
		Empty, 40000., Plain, 8000., Verify+" before", 30000., Verify+" after", 26000., Verify+" before again", 30300., Empty+" again", 41000., InProcess, 120000.)
	add(Table{Part: Direct, Name: "without HTTP, 1 goroutine", Callers: 1, Against: []string{Unbatched}}, InProcess, 19000., Unbatched, 20000.)
	add(Table{Part: Growth, Name: "growth", Callers: 64, Against: []string{"1000 sessions"}},
		"1000 sessions", 1000., "1000000 sessions", 990., "10000 of one user", 800., "1000 sessions again", 1010.)
	r.Tables = append(r.Tables, Table{Part: Memory, Name: "1000000 live sessions", Rows: []Row{{Name: Verify, Rounds: []Figures{{IdleMB: 20, ResidentMB: 190, PeakMB: 195, PerSession: 381}}}}})
	r.Tables = append(r.Tables, Table{Part: Vanish, Name: "clients that leave", Rows: []Row{{Name: Verify, Rounds: []Figures{
		{Rate: 1000, Left: 50, Declined: 0, Wrong: 0, Longest: 170, Deadline: 150, GoroutinesBefore: 17, GoroutinesAfter: 17},
	}}}})
	storm := Table{Part: Storm, Name: "one replica", Round: 10 * time.Second, Turn: 10 * time.Second}
	for _, name := range []string{Calm, Flooded, CalmAgain, Unchecked, Crowded, Rude, Full, FullFlood, Stampede} {
		f := Figures{CheckP50: 1, CheckP99: 3, ToCalm: 1.5, Rate: 500, LoginShare: 0.8, Refused: 40, Longest: 2200, LongestRefusal: 12, ResidentMB: 90, Dark: 0, Unanswered: 0, Recovery: 170}
		if name == Rude {
			f[Prompt] = 99
		}
		storm.Rows = append(storm.Rows, Row{Name: name, Rounds: []Figures{f}})
	}
	r.Tables = append(r.Tables, storm)
	r.Judge()
	return r
}

func TestPrint_MatchesGoldenFile(t *testing.T) {
	var out bytes.Buffer
	canned().Print(&out)
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
		t.Errorf("the report differs from %s (write it with -update):\n%s", golden, out.String())
	}
}

func TestJudge_ComparesEveryMeasuredFigureToItsThreshold(t *testing.T) {
	r := canned()
	got := map[string]bool{}
	for _, v := range r.Verdicts {
		got[v.What] = v.Holds
	}
	// testdata/report.txt shows each figure beside its limit.
	for what, holds := range map[string]bool{
		"rate of /v1/verify divided by empty handler":                                                    true,
		"rate of /v1/verify divided by plain design":                                                     true,
		"rate, in-process divided by /v1/verify":                                                         true,
		"rate, in-process divided by unbatched, 1 goroutine":                                             false,
		"p50, in-process divided by unbatched, 1 goroutine":                                              false,
		"CPU per check, service divided by empty handler":                                                true,
		"CPU of Redis per check, service divided by plain design":                                        true,
		"Redis round trips per check":                                                                    true,
		"memory: resident memory of the service":                                                         true,
		"memory: Redis memory per session":                                                               false,
		"growth: rate with 1000000 sessions divided by 1000 sessions, limit 1 minus noise":               true,
		"growth: rate with 10000 of one user divided by 1000 sessions, limit 1 minus noise":              false,
		"vanish, /v1/verify: wrong answers":                                                              true,
		"vanish, /v1/verify: longest wait for an answer":                                                 false,
		"vanish, /v1/verify: goroutines that did not end":                                                true,
		"storm, one replica, check p99 beside 64 clients, divided by p99 without logins":                 true,
		"storm, one replica, logins of 64 clients, divided by bcrypt limit":                              true,
		"storm, one replica, logins without checks, divided by bcrypt limit":                             false,
		"storm, one replica, check p99 beside 1,000 clients, divided by p99 without logins":              true,
		"storm, one replica, logins of 1,000 clients, divided by bcrypt limit":                           true,
		"storm, one replica, longest time until one of 1,000 clients is answered":                        true,
		"storm, one replica, longest time until one of 1,000 clients is refused":                         true,
		"storm, one replica, failed requests for /livez":                                                 true,
		"storm, one replica, check p99 beside clients that retry at once, divided by p99 without logins": true,
		"storm, one replica, rate of checks beside 16 login clients, divided by rate without logins":     true,
		"storm, one replica, logins beside checks at full speed, divided by bcrypt limit":                true,
		"storm, one replica, unanswered logins of 10,000 at once":                                        true,
		"storm, one replica, time until a login is fast again after 10,000 at once":                      true,
		"storm, one replica, resident memory with the hashing process":                                   true,
		"storm, one replica, users of 100 at other addresses who sign in within 5 s, round 1":            false,
	} {
		judged, ok := got[what]
		if !ok || judged != holds {
			t.Errorf("%s: judged %t, holds %t; want %t", what, ok, judged, holds)
		}
		delete(got, what)
	}
	for what := range got {
		t.Errorf("unexpected verdict: %s", what)
	}
}

func TestNewSpread_ReturnsMedianAndConfidenceInterval(t *testing.T) {
	twenty := make([]float64, 20)
	for i := range twenty {
		twenty[i] = float64(20 - i)
	}
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{[]float64{3}, Spread{3, 3, 3, 3}},
		{[]float64{4, 1, 3, 2}, Spread{2.5, 1, 4, 4}},        // of so few values, the interval is the whole range
		{[]float64{7, 1, 6, 2, 5, 3, 4}, Spread{4, 1, 7, 7}}, // the range of seven values is a confidence interval of 98 %
		{twenty, Spread{10.5, 6, 15, 20}},                    // the interval is from the 6th to the 15th of the 20 values
		{[]float64{0.5, 0.5, 0.6}, Spread{0.5, 0.5, 0.6, 0.6}},
	} {
		if got := newSpread(c.values); got != c.want {
			t.Errorf("spread of %v is %v, want %v", c.values, got, c.want)
		}
	}
	if !math.IsNaN(newSpread(nil).Median) {
		t.Error("the median of no values is a number")
	}
}

// In the second round the machine is ten times slower. That changes the rates of both rows, but
// must not change their ratio.
func TestRatio_SlowRoundDoesNotChangeTheRatio(t *testing.T) {
	rounds := func(rates ...float64) (all []Figures) {
		for _, rate := range rates {
			all = append(all, Figures{Rate: rate})
		}
		return all
	}
	table := Table{Rows: []Row{{Name: "a", Rounds: rounds(50, 5, 60)}, {Name: "b", Rounds: rounds(100, 10, 100)}}}
	if got := table.Ratio(Rate, "a", "b"); got != (Spread{0.5, 0.5, 0.6, 0.6}) {
		t.Errorf("ratio %v", got)
	}
}
