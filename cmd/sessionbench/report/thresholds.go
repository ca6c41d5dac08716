package report

import (
	"fmt"
	"math"
)

// Verdict compares a figure to a limit. Aim is a stricter, optional limit; 0 means no aim.
type Verdict struct {
	What   string  `json:"what"`
	Sign   string  `json:"sign"` // atLeast if Limit is a minimum, atMost if it is a maximum
	Limit  float64 `json:"limit"`
	Aim    float64 `json:"aim,omitempty"`
	Figure float64 `json:"figure"`
	Holds  bool    `json:"holds"`
	format string
}

const (
	atLeast, atMost      = "≥", "≤"
	times, ms, megabytes = "%.2f ×", "%.0f ms", "%.0f MB"
)

func (v *Verdict) keeps(limit float64) bool {
	return v.Sign == atLeast && v.Figure >= limit || v.Sign == atMost && v.Figure <= limit
}

func (v Verdict) String() string {
	text := func(value float64) string { return fmt.Sprintf(v.format, value) }
	mark, aim := map[bool]string{true: "ok  ", false: "MISS"}[v.Holds], ""
	if v.Aim != 0 {
		aim = ", aim " + text(v.Aim) + map[bool]string{true: " reached", false: " not reached"}[v.keeps(v.Aim)]
	}
	return fmt.Sprintf("%s  %s: %s (%s %s%s)", mark, v.What, text(v.Figure), v.Sign, text(v.Limit), aim)
}

// hold compares a figure to a threshold. A figure that is NaN was not measured and gets no verdict.
func (r *Report) hold(what, sign string, limit, aim float64, format string, figure float64) {
	if !math.IsNaN(figure) {
		v := Verdict{What: what, Sign: sign, Limit: limit, Aim: aim, format: format, Figure: figure}
		if v.Holds = v.keeps(limit); !v.Holds {
			r.Missed++
		}
		r.Verdicts = append(r.Verdicts, v)
	}
}

// find returns the table with EdDSA tokens for these parameters, or an empty table if there is none.
func (r *Report) find(part Part, callers int, tokens string) *Table {
	for _, t := range r.Of(part) {
		if t.Callers == callers && t.Alg == "EdDSA" && t.Tokens == tokens {
			return t
		}
	}
	return &Table{}
}

// Judge compares the report to all thresholds. The thresholds of compare apply to 64 connections
// and to warm EdDSA tokens, unless their name says otherwise.
func (r *Report) Judge() {
	web, crowded, fresh := r.find(Compare, 64, Warm), r.find(Compare, 256, Warm), r.find(Compare, 64, Fresh)
	alone, pair, trips := r.find(Direct, 1, Warm), r.find(Direct, 2, Warm), r.find(Compare, 1, Warm).Row(r.Service).median(Trips)
	r.hold("rate of /v1/verify divided by empty handler", atLeast, 0.42, 0, times, web.Ratio(Rate, r.Service, Empty).Median)
	r.hold("rate of /v1/verify divided by empty handler, 256 connections", atLeast, 0.42, 0, times, crowded.Ratio(Rate, r.Service, Empty).Median)
	r.hold("rate of /v1/verify divided by plain design", atLeast, 2.0, 0, times, web.Ratio(Rate, r.Service, Plain).Median)
	r.hold("rate of /v1/verify divided by plain design, 256 connections", atLeast, 2.0, 0, times, crowded.Ratio(Rate, r.Service, Plain).Median)
	r.hold("CPU per check, service divided by empty handler", atMost, 2.6, 0, times, web.Ratio(CPU, r.Service, Empty).Median)
	r.hold("CPU per check, check port divided by empty handler", atMost, 1.2, 1.0, times, web.Ratio(CPU, CheckPort, Empty).Median)
	r.hold("CPU per check, check port divided by empty handler, 256 connections", atMost, 1.2, 1.0, times, crowded.Ratio(CPU, CheckPort, Empty).Median)
	r.hold("rate of the check port divided by empty handler", atLeast, 0.75, 0.90, times, web.Ratio(Rate, CheckPort, Empty).Median)
	r.hold("rate of the check port divided by empty handler, 256 connections", atLeast, 0.75, 0.90, times, crowded.Ratio(Rate, CheckPort, Empty).Median)
	r.hold("CPU of Redis per check, service divided by plain design", atMost, 0.4, 0, times, web.Ratio(RedisCPU, r.Service, Plain).Median)
	r.hold("Redis round trips per check, 1 connection, at least", atLeast, 0.995, 0, "%.3f", trips)
	r.hold("Redis round trips per check, 1 connection, at most", atMost, 1.005, 0, "%.3f", trips)
	r.hold("Redis round trips per check", atMost, 0.2, 0, "%.3f", web.Row(r.Service).median(Trips))
	r.hold("rate of /v1/verify divided by plain design, new tokens", atLeast, 1.0, 0, times, fresh.Ratio(Rate, r.Service, Plain).Median)
	r.hold("rate, in-process divided by unbatched, 1 goroutine", atLeast, 0.97, 0, "%.3f", alone.Ratio(Rate, InProcess, Unbatched).Median)
	r.hold("p50, in-process divided by unbatched, 1 goroutine", atMost, 1.05, 0, "%.3f", alone.Ratio(P50, InProcess, Unbatched).Median)
	r.hold("rate, in-process divided by unbatched, 2 goroutines", atLeast, 0.97, 0, "%.3f", pair.Ratio(Rate, InProcess, Unbatched).Median)
	r.hold("p50, in-process divided by unbatched, 2 goroutines", atMost, 1.05, 0, "%.3f", pair.Ratio(P50, InProcess, Unbatched).Median)
	r.hold("rate, in-process divided by /v1/verify", atLeast, 4, 0, times, web.Ratio(Rate, InProcess, r.Service).Median)
	r.hold("allocations per warm check, without those of go-redis", atMost, 2, 0, "%.1f", alone.Row(InProcess).median(Allocations)-alone.Row(GoRedis).median(Allocations))
	for _, t := range r.Of(Memory) {
		r.hold("memory: resident memory of the service", atMost, 200, 0, megabytes, t.Row(Verify).median(ResidentMB))
		r.hold("memory: Redis memory per session", atMost, 375, 320, "%.0f bytes", t.Row(Verify).median(PerSession))
	}
	for _, t := range r.Of(Growth) {
		first := t.Rows[0].Name
		for _, row := range t.Rows[1 : len(t.Rows)-1] {
			r.hold("growth: rate with "+row.Name+" divided by "+first+", limit 1 minus noise", atLeast, 1-t.noise(), 0, "%.3f", t.Ratio(Rate, row.Name, first).Median)
		}
	}
	for _, t := range r.Of(Vanish) {
		for _, row := range t.Rows {
			r.hold("vanish, "+row.Name+": wrong answers", atMost, 0, 0, "%.0f", row.median(Wrong))
			r.hold("vanish, "+row.Name+": longest wait for an answer", atMost, row.median(Deadline)+10, 0, ms, row.median(Longest))
			r.hold("vanish, "+row.Name+": goroutines that did not end", atMost, 0, 0, "%.0f", row.median(GoroutinesAfter)-row.median(GoroutinesBefore))
		}
	}
	for _, t := range r.Of(Storm) {
		r.judgeStorm(t, "storm, "+t.Name+", ")
	}
}

// noise returns how far the ratio of the last row to the first row, which measure the same, is from
// 1. The result is at least 0.02, because seven rounds cannot show a smaller difference. It is at
// most 0.10, because a loss of more than 10 % of the rate must never pass as noise.
func (t *Table) noise() float64 {
	s := t.Ratio(Rate, t.Rows[len(t.Rows)-1].Name, t.Rows[0].Name)
	return min(0.10, max(0.02, math.Abs(1-s.Low), math.Abs(s.High-1)))
}

// Visitors is the number of users who sign in, each from a different address, while other clients
// flood sessiond with logins and do not obey Retry-After.
const Visitors = 100

func (r *Report) judgeStorm(t *Table, who string) {
	crowd, rude, rush := t.Row(Crowded), t.Row(Rude), t.Row(Stampede)
	r.hold(who+"check p99 beside 64 clients, divided by p99 without logins", atMost, 3, 1.5, times, t.Row(Flooded).median(ToCalm))
	r.hold(who+"logins of 64 clients, divided by bcrypt limit", atLeast, 0.65, 0.80, times, t.Row(Flooded).median(LoginShare))
	r.hold(who+"logins without checks, divided by bcrypt limit", atLeast, 0.90, 0, times, t.Row(Unchecked).median(LoginShare))
	r.hold(who+"check p99 beside 1,000 clients, divided by p99 without logins", atMost, 2, 0, times, crowd.median(ToCalm))
	r.hold(who+"logins of 1,000 clients, divided by bcrypt limit", atLeast, 0.75, 0.85, times, crowd.median(LoginShare))
	r.hold(who+"longest time until one of 1,000 clients is answered", atMost, 5000, 0, ms, crowd.most(Longest))
	r.hold(who+"longest time until one of 1,000 clients is refused", atMost, 50, 0, ms, crowd.most(LongestRefusal))
	r.hold(who+"failed requests for /livez", atMost, 0, 0, "%.0f", crowd.most(Dark)+rude.most(Dark)+rush.most(Dark))
	r.hold(who+"check p99 beside clients that retry at once, divided by p99 without logins", atMost, 5, 0, times, rude.median(ToCalm))
	r.hold(who+"rate of checks beside 16 login clients, divided by rate without logins", atLeast, 0.70, 0, times, t.Ratio(Rate, FullFlood, Full).Median)
	r.hold(who+"logins beside checks at full speed, divided by bcrypt limit", atLeast, 0.15, 0, times, t.Row(FullFlood).median(LoginShare))
	r.hold(who+"unanswered logins of 10,000 at once", atMost, 0, 0, "%.0f", rush.most(Unanswered))
	r.hold(who+"time until a login is fast again after 10,000 at once", atMost, 5000, 0, ms, rush.most(Recovery))
	r.hold(who+"resident memory with the hashing process", atMost, 600, 0, megabytes, max(crowd.most(ResidentMB), rush.most(ResidentMB)))
	for i, prompt := range rude.values(Prompt) {
		r.hold(fmt.Sprintf("%susers of 100 at other addresses who sign in within 5 s, round %d", who, i+1), atLeast, Visitors, 0, "%.0f", prompt)
	}
}
