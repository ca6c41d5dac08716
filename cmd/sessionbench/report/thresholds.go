package report

import (
	"fmt"
	"math"
)

// threshold is a limit that a figure must keep. A figure that is NaN was not measured.
type threshold struct {
	what       string
	sign       string // atLeast or atMost
	limit, aim float64
	format     string
	figure     float64
}

const (
	atLeast, atMost = "≥", "≤"
	noAim           = 0
	times, whole    = "%.2f ×", "%.0f"
)

// Verdict is a threshold beside what was measured.
type Verdict struct {
	What   string  `json:"what"`
	Limit  string  `json:"limit"`
	Figure float64 `json:"figure"`
	Holds  bool    `json:"holds"`
	Aim    string  `json:"aim,omitempty"`
	Aimed  bool    `json:"reaches_aim,omitempty"`
	text   string  // the figure
}

func (v Verdict) String() string {
	mark, aim := "MISS", ""
	if v.Holds {
		mark = "ok  "
	}
	if v.Aim != "" {
		aim = ", aim " + v.Aim + map[bool]string{true: " reached", false: " not reached"}[v.Aimed]
	}
	return fmt.Sprintf("%s  %s: %s (%s%s)", mark, v.What, v.text, v.Limit, aim)
}

// Judge holds the report to the thresholds and returns how many it misses.
func (r *Report) Judge() (missed int) {
	for _, t := range r.thresholds() {
		if math.IsNaN(t.figure) {
			continue
		}
		holds := func(limit float64) bool {
			return t.sign == atLeast && t.figure >= limit || t.sign == atMost && t.figure <= limit
		}
		v := Verdict{
			What: t.what, Limit: t.sign + " " + fmt.Sprintf(t.format, t.limit), Figure: t.figure, Holds: holds(t.limit),
			text: fmt.Sprintf(t.format, t.figure),
		}
		if t.aim != noAim {
			v.Aim, v.Aimed = fmt.Sprintf(t.format, t.aim), holds(t.aim)
		}
		if !v.Holds {
			missed++
		}
		r.Verdicts = append(r.Verdicts, v)
	}
	return missed
}

// find returns a table with EdDSA, or an empty one.
func (r *Report) find(part Part, callers int, tokens string) *Table {
	for _, t := range r.Of(part) {
		if t.Callers == callers && t.Alg == "EdDSA" && t.Tokens == tokens {
			return t
		}
	}
	return &Table{}
}

// thresholds are all that there are. Those of compare are for 64 connections, EdDSA and warm tokens
// unless they say otherwise.
func (r *Report) thresholds() []threshold {
	web, crowded, fresh := r.find(Compare, 64, Warm), r.find(Compare, 256, Warm), r.find(Compare, 64, Fresh)
	alone, pair, trips := r.find(Direct, 1, Warm), r.find(Direct, 2, Warm), r.find(Compare, 1, Warm).Row(r.Service).median(Trips)
	list := []threshold{
		{"rate of /v1/verify to the empty handler's", atLeast, 0.55, 0.70, times, web.Ratio(Rate, r.Service, Empty).Median},
		{"rate of /v1/verify to the empty handler's, 256 connections", atLeast, 0.55, 0.70, times, crowded.Ratio(Rate, r.Service, Empty).Median},
		{"rate of /v1/verify to the plain design's", atLeast, 2.8, 3.4, times, web.Ratio(Rate, r.Service, Plain).Median},
		{"rate of /v1/verify to the plain design's, 256 connections", atLeast, 2.8, 3.4, times, crowded.Ratio(Rate, r.Service, Plain).Median},
		{"CPU of the service for a check to the empty handler's", atMost, 1.9, noAim, times, web.Ratio(CPU, r.Service, Empty).Median},
		{"CPU of Redis for a check to the plain design's", atMost, 0.4, noAim, times, web.Ratio(RedisCPU, r.Service, Plain).Median},
		{"Redis round trips for a check, 1 connection, at least", atLeast, 0.995, noAim, "%.3f", trips},
		{"Redis round trips for a check, 1 connection, at most", atMost, 1.005, noAim, "%.3f", trips},
		{"Redis round trips for a check", atMost, 0.2, noAim, "%.3f", web.Row(r.Service).median(Trips)},
		{"rate of /v1/verify to the plain design's, every token new", atLeast, 1.0, noAim, times, fresh.Ratio(Rate, r.Service, Plain).Median},
		{"rate in-process to unbatched, 1 goroutine", atLeast, 0.97, noAim, "%.3f", alone.Ratio(Rate, InProcess, Unbatched).Median},
		{"p50 in-process to unbatched, 1 goroutine", atMost, 1.05, noAim, "%.3f", alone.Ratio(P50, InProcess, Unbatched).Median},
		{"rate in-process to unbatched, 2 goroutines", atLeast, 0.97, noAim, "%.3f", pair.Ratio(Rate, InProcess, Unbatched).Median},
		{"p50 in-process to unbatched, 2 goroutines", atMost, 1.05, noAim, "%.3f", pair.Ratio(P50, InProcess, Unbatched).Median},
		{"rate in-process to /v1/verify's", atLeast, 4, noAim, times, web.Ratio(Rate, InProcess, r.Service).Median},
		{"allocations of a warm check outside go-redis", atMost, 2, noAim, "%.1f", alone.Row(InProcess).median(Allocations) - alone.Row(GoRedis).median(Allocations)},
	}
	for _, t := range r.Of(Memory) {
		list = append(list,
			threshold{"memory: the service, resident", atMost, 200, noAim, "%.0f MB", t.Row(Verify).median(ResidentMB)},
			threshold{"memory: Redis, for a session", atMost, 375, 320, "%.0f bytes", t.Row(Verify).median(PerSession)})
	}
	for _, t := range r.Of(Growth) {
		for _, row := range t.Rows[1 : len(t.Rows)-1] {
			list = append(list, threshold{"growth: rate with " + row.Name + " to " + t.Rows[0].Name + ", less the noise",
				atLeast, 1 - t.Noise(), noAim, "%.3f", t.Ratio(Rate, row.Name, t.Rows[0].Name).Median})
		}
	}
	for _, t := range r.Of(Vanish) {
		for _, row := range t.Rows {
			who := "vanish, " + row.Name + ": "
			list = append(list,
				threshold{who + "wrong answers", atMost, 0, noAim, whole, row.median(Wrong)},
				threshold{who + "longest wait", atMost, row.median(Deadline) + 10, noAim, "%.0f ms", row.median(Longest)},
				threshold{who + "goroutines left behind", atMost, 0, noAim, whole, row.median(GoroutinesAfter) - row.median(GoroutinesBefore)})
		}
	}
	for _, t := range r.Of(Storm) {
		list = append(list, t.storm()...)
	}
	return list
}

// Noise is how far the first and the last row, which are the same, were apart in the worst round. It
// is at least what seven rounds cannot tell from nothing, and at most what still counts as flat.
func (t *Table) Noise() float64 {
	s := t.Ratio(Rate, t.Rows[len(t.Rows)-1].Name, t.Rows[0].Name)
	return min(0.10, max(0.02, math.Abs(1-s.Low), math.Abs(s.High-1)))
}

// Visitors is how many people at addresses of their own sign in beside clients that retry at once.
const Visitors = 100

// storm are the thresholds of one deployment.
func (t *Table) storm() []threshold {
	const ms = "%.0f ms"
	flooded, crowd, rude, rush, fast := t.Row(Flooded), t.Row(Crowded), t.Row(Rude), t.Row(Stampede), t.Row(FullFlood)
	list := []threshold{
		{"check p99 beside 64 clients, to calm", atMost, 3, 1.5, times, flooded.median(ToCalm)},
		{"logins of 64 clients, to the bcrypt limit", atLeast, 0.65, 0.80, times, flooded.median(LoginShare)},
		{"logins without checks, to the bcrypt limit", atLeast, 0.90, noAim, times, t.Row(Unchecked).median(LoginShare)},
		{"check p99 beside a crowd, to calm", atMost, 2, noAim, times, crowd.median(ToCalm)},
		{"logins of a crowd, to the bcrypt limit", atLeast, 0.75, 0.85, times, crowd.median(LoginShare)},
		{"longest answer to a client of a crowd", atMost, 5000, noAim, ms, crowd.most(Longest)},
		{"longest refusal of a client of a crowd", atMost, 50, noAim, ms, crowd.most(LongestRefusal)},
		{"/livez failed", atMost, 0, noAim, whole, crowd.most(Dark) + rude.most(Dark) + rush.most(Dark)},
		{"check p99 beside clients that retry at once, to calm", atMost, 5, noAim, times, rude.median(ToCalm)},
		{"rate of checks beside 16 flooders, to that without", atLeast, 0.70, noAim, times, t.Ratio(Rate, FullFlood, Full).Median},
		{"logins beside checks at full speed, to the bcrypt limit", atLeast, 0.15, noAim, times, fast.median(LoginShare)},
		{"unanswered of 10,000 at once", atMost, 0, noAim, whole, rush.most(Unanswered)},
		{"back to normal after 10,000 at once", atMost, 5000, noAim, ms, rush.most(Recovery)},
		{"resident, with the hashing process", atMost, 600, noAim, "%.0f MB", max(crowd.most(ResidentMB), rush.most(ResidentMB))},
	}
	for i, prompt := range rude.values(Prompt) {
		list = append(list, threshold{fmt.Sprintf("visitors at other addresses who sign in within 5 s, round %d", i+1), atLeast, Visitors, noAim, whole, prompt})
	}
	for i := range list {
		list[i].what = "storm, " + t.Name + ", " + list[i].what
	}
	return list
}
