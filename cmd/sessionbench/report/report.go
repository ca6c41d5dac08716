// Package report holds what a run has found, summarizes it with benchstat's maths, holds it to the
// thresholds and prints it.
package report

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/perf/benchmath"

	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
)

// Report is what a run has found.
type Report struct {
	Machine   probe.Machine `json:"machine"`
	Config    any           `json:"config"`
	Service   string        `json:"service"` // the row of compare that is held to the thresholds
	Tables    []Table       `json:"tables"`
	Others    Others        `json:"others"`
	Verdicts  []Verdict     `json:"thresholds"`
	Wrong     int           `json:"wrong_answers"`
	Complaint string        `json:"first_wrong_answer,omitempty"`
}

// Complain counts the wrong answers of a contender.
func (r *Report) Complain(name string, wrong int, complaint string) {
	if r.Wrong == 0 && wrong > 0 {
		r.Complaint = name + ": " + complaint
	}
	r.Wrong += wrong
}

// Others is what programs that take no part took of the machine during the turns. The host of a
// virtual machine counts as one of them.
type Others struct {
	Share float64 `json:"share"` // of all cores
	taken time.Duration
	wall  time.Duration
}

// Add adds one turn.
func (o *Others) Add(spent probe.Clocks) {
	o.taken += max(0, spent.Machine-spent.Self-spent.Process-spent.Redis)
	o.wall += spent.Wall
	o.Share = float64(o.taken) / float64(o.wall) / float64(runtime.NumCPU())
}

// Table is one table of the report. Its rows took turns.
type Table struct {
	Part    Part          `json:"part"`
	Name    string        `json:"name"`
	Callers int           `json:"callers,omitempty"` // at the same time: connections, or goroutines
	Alg     string        `json:"algorithm,omitempty"`
	Tokens  string        `json:"tokens,omitempty"`  // Warm or Fresh
	Against []string      `json:"against,omitempty"` // the rows that the others are compared to
	Round   time.Duration `json:"round_ns,omitempty"`
	Turn    time.Duration `json:"turn_ns,omitempty"` // length of a turn within a round
	Rows    []Row         `json:"rows"`
}

// Part is the measurement that a table belongs to.
type Part string

// The parts.
const (
	Compare = Part("compare")
	Direct  = Part("in-process")
	After   = Part("after compare")
	Memory  = Part("memory")
	Growth  = Part("growth") // the first row is what the others are compared to, the last is the same again
	Vanish  = Part("vanish")
	Storm   = Part("storm")
)

// The tokens of a table.
const (
	Warm  = "warm" // seen before
	Fresh = "new"  // each seen for the first time
)

// The rows.
const (
	Empty     = "empty" // a chi handler that does nothing
	Plain     = "plain" // the plain design
	Verify    = "/v1/verify"
	InProcess = "in-process"
	Unbatched = "in-process, unbatched"
	Ceiling   = "redis-benchmark"

	Calm      = "no flood"
	Flooded   = "64 clients, one login after another"
	CalmAgain = "no flood, again"
	Unchecked = "the same without checks"
	Crowded   = "1,000 clients that wait as told"
	Rude      = "64 clients that retry at once"
	Full      = "checks at full speed"
	FullFlood = "the same beside 16 flooders"
	Stampede  = "10,000 at once"
)

// Row is one contender, or one scene of a storm.
type Row struct {
	Name    string            `json:"name"`
	Rounds  []Figures         `json:"rounds"`
	Median  Figures           `json:"median"`                 // of each figure by itself
	Against map[string]Spread `json:"rate_against,omitempty"` // ratio of its rate to that of others, round by round
	// Sessions is how many sessions Redis holds, in growth. They may all be of one user.
	Sessions int  `json:"sessions,omitempty"`
	OneUser  bool `json:"one_user,omitempty"`
}

// Figures are what was measured in one round.
type Figures map[Figure]float64

// Figure is the name of a quantity. CPU times are milliseconds for 1,000 checks, which is
// microseconds for one.
type Figure string

// The figures.
const (
	Checks     = Figure("checks")
	Rate       = Figure("checks_per_second")
	P50        = Figure("p50_us")
	P99        = Figure("p99_us")
	CPU        = Figure("cpu_ms_per_1000")
	RedisCPU   = Figure("redis_cpu_ms_per_1000")
	RedisReads = Figure("redis_reads_per_check") // a round trip is one, and so is a pipeline
	LoadCPU    = Figure("load_cpu_ms_per_1000")  // of the load generator, and of a verifier in the same process

	Resident    = Figure("resident_mb")
	Idle        = Figure("idle_mb")
	Peak        = Figure("peak_mb")
	PerSession  = Figure("redis_bytes_per_session") // with its user's generation
	Allocations = Figure("allocations")

	Vanished        = Figure("vanished")
	Declined        = Figure("declined") // 503, or the caller's deadline
	Wrong           = Figure("wrong")
	Longest         = Figure("longest_ms")
	Deadline        = Figure("deadline_ms")
	GoroutinesFirst = Figure("goroutines_before")
	GoroutinesLast  = Figure("goroutines_after")

	CheckP50       = Figure("check_p50_ms")
	CheckP99       = Figure("check_p99_ms")
	ToCalm         = Figure("check_p99_to_calm") // both calm scenes of the same round, taken together
	Limit          = Figure("bcrypt_limit")      // logins a second that bcrypt allows, measured before and after
	LoginShare     = Figure("logins_to_bcrypt_limit")
	SignedIn       = Figure("signed_in")
	Shed           = Figure("shed")    // 503
	Limited        = Figure("limited") // 429
	Refused        = Figure("refused") // both
	Unanswered     = Figure("unanswered")
	LongestRefusal = Figure("longest_refusal_ms")
	LoginP99       = Figure("login_p99_ms")
	Prompt         = Figure("visitors_signed_in_promptly")
	Recovery       = Figure("back_to_normal_ms") // after a stampede, until a login was normal
	Dark           = Figure("livez_failed")
)

// columns are the figures that are printed, for the tables that have them.
var columns = []struct {
	figure       Figure
	head, format string
	most         bool // print the maximum of the rounds, not the median
}{
	{CheckP50, "check p50 ms", "%.1f", false},
	{CheckP99, "p99 ms", "%.1f", false},
	{ToCalm, "× calm", "%.2f", false},
	{Rate, "checks/s", "%.0f", false},
	{P50, "p50 µs", "%.0f", false},
	{P99, "p99 µs", "%.0f", false},
	{CPU, "CPU", "%.1f", false},
	{RedisCPU, "Redis CPU", "%.1f", false},
	{RedisReads, "trips", "%.2f", false},
	{Vanished, "left", "%.0f", false},
	{Declined, "declined", "%.0f", false},
	{Wrong, "wrong", "%.0f", false},
	{LoginShare, "logins, of the limit", "%.2f", false},
	{Refused, "refused", "%.0f", false},
	{Longest, "longest ms", "%.0f", true},
	{LongestRefusal, "longest refusal", "%.0f", true},
	{Deadline, "deadline ms", "%.0f", false},
	{GoroutinesFirst, "goroutines", "%.0f", false},
	{GoroutinesLast, "afterwards", "%.0f", false},
	{Idle, "idle MB", "%.0f", false},
	{Peak, "peak MB", "%.0f", false},
	{Resident, "resident MB", "%.0f", true},
	{PerSession, "bytes in Redis", "%.0f", false},
	{Allocations, "allocations", "%.1f", false},
}

// Spread is a median with its confidence interval.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"least"`
	High   float64 `json:"most"`
}

// NewSpread summarizes values as benchstat does: their median and its 95 % confidence interval.
// With 6 to 8 values that is their range, and with fewer the range stands in for it. It is NaN if
// there are no values.
func NewSpread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	sample := benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds)
	s := benchmath.AssumeNothing.Summary(sample, 0.95)
	return Spread{s.Center, max(s.Lo, sample.Values[0]), min(s.Hi, sample.Values[len(values)-1])}
}

// values are those of the rounds that have the figure.
func (r *Row) values(f Figure) (values []float64) {
	for _, round := range r.Rounds {
		if value, ok := round[f]; ok {
			values = append(values, value)
		}
	}
	return values
}

// Typical is the median of a figure over the rounds, NaN if none has it.
func (r *Row) Typical(f Figure) float64 { return NewSpread(r.values(f)).Median }

// most is the maximum of a figure over the rounds, NaN if none has it.
func (r *Row) most(f Figure) float64 {
	if values := r.values(f); len(values) > 0 {
		return slices.Max(values)
	}
	return math.NaN()
}

// Row returns a row by its name, or an empty one: its figures are NaN.
func (t *Table) Row(name string) *Row {
	if i := slices.IndexFunc(t.Rows, func(r Row) bool { return r.Name == name }); i >= 0 {
		return &t.Rows[i]
	}
	return &Row{}
}

// Ratio divides a figure of two rows round by round. What disturbs the machine for a while disturbs
// both sides of the same round. It is NaN if one of them was not measured.
func (t *Table) Ratio(f Figure, name, to string) Spread {
	of, by := t.Row(name).values(f), t.Row(to).values(f)
	var ratios []float64
	for i := range min(len(of), len(by)) {
		ratios = append(ratios, of[i]/by[i])
	}
	return NewSpread(ratios)
}

// Add summarizes a table and adds it to the report.
func (r *Report) Add(t Table) {
	for i := range t.Rows {
		row := &t.Rows[i]
		row.Median, row.Against = Figures{}, map[string]Spread{}
		for f := range row.Rounds[0] {
			row.Median[f] = row.Typical(f)
		}
		for _, other := range t.Against {
			if against := t.Ratio(Rate, row.Name, other); !math.IsNaN(against.Median) {
				row.Against[other] = against
			}
		}
	}
	r.Tables = append(r.Tables, t)
}

// Of returns the tables of a part.
func (r *Report) Of(part Part) (tables []*Table) {
	for i := range r.Tables {
		if r.Tables[i].Part == part {
			tables = append(tables, &r.Tables[i])
		}
	}
	return tables
}

// Print writes the report as text.
func (r *Report) Print(stdout io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b, r.Machine.String())
	b.WriteString("Figures are medians of the rounds, and maxima where they are the longest or the resident memory. Ratios are of\n" +
		"rates, round by round. CPU is ms for 1,000 checks. Trips are read events of Redis for a check.\n")
	for i := range r.Tables {
		r.Tables[i].print(&b)
	}
	b.WriteString("\nThresholds\n")
	for _, v := range r.Verdicts {
		fmt.Fprintln(&b, v.String())
	}
	if r.Others.wall > 0 {
		fmt.Fprintf(&b, "\nOther programs took %.0f %% of the machine during the turns.\n", 100*r.Others.Share)
	}
	if r.Others.Share > 0.05 {
		b.WriteString("THAT IS TOO MUCH: run it again where nothing else runs.\n")
	}
	if r.Wrong > 0 {
		fmt.Fprintf(&b, "\nWRONG ANSWERS: %d, the first: %s\n", r.Wrong, r.Complaint)
	} else {
		b.WriteString("\nEvery answer was checked, and right.\n")
	}
	_, err := io.WriteString(stdout, b.String())
	return err
}

func (t *Table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s", t.Name)
	if t.Round > 0 {
		fmt.Fprintf(w, "; %d rounds of %v", len(t.Rows[0].Rounds), t.Round)
	}
	if t.Turn > 0 {
		fmt.Fprintf(w, " in turns of %v", t.Turn)
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tab, "\n\t")
	for _, other := range t.Against {
		fmt.Fprintf(tab, "× %s\tfrom–to\t", other)
	}
	has := make([]bool, len(columns))
	for i, c := range columns {
		has[i] = slices.ContainsFunc(t.Rows, func(r Row) bool { return len(r.values(c.figure)) > 0 })
		if has[i] {
			fmt.Fprintf(tab, "%s\t", c.head)
		}
	}
	for _, row := range t.Rows {
		fmt.Fprintf(tab, "\n%s\t", row.Name)
		for _, other := range t.Against {
			if s, ok := row.Against[other]; ok {
				fmt.Fprintf(tab, "%.2f\t%.2f–%.2f\t", s.Median, s.Low, s.High)
			} else {
				fmt.Fprint(tab, "–\t\t")
			}
		}
		for i, c := range columns {
			value := row.Typical(c.figure)
			if c.most {
				value = row.most(c.figure)
			}
			switch {
			case !has[i]:
			case math.IsNaN(value) || math.Abs(value) < 0.005:
				fmt.Fprint(tab, "–\t")
			default:
				fmt.Fprintf(tab, c.format+"\t", value)
			}
		}
	}
	fmt.Fprintln(tab)
	_ = tab.Flush() // to memory
}
