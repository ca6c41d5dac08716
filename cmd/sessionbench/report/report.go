// Package report holds what a run has found, summarizes it with benchstat's maths, holds it to the
// thresholds and prints it.
package report

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"golang.org/x/perf/benchmath"

	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
)

// Report is what a run has found.
type Report struct {
	Machine   string    `json:"machine"`
	Config    any       `json:"config"`
	Service   string    `json:"service"` // the row of compare that is held to the thresholds
	Tables    []Table   `json:"tables"`
	Others    Others    `json:"others"`
	Verdicts  []Verdict `json:"thresholds"`
	Missed    int       `json:"missed_thresholds"`
	Wrong     int       `json:"wrong_answers"`
	Complaint string    `json:"first_wrong_answer,omitempty"`
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
	Share       float64 `json:"share"` // of all cores
	taken, wall time.Duration
}

// Add adds what was spent in one turn.
func (o *Others) Add(spent probe.Clocks) {
	o.taken += max(0, spent.Machine-spent.Self-spent.Process-spent.Redis)
	o.wall += spent.Wall
	o.Share = float64(o.taken) / float64(o.wall) / float64(runtime.NumCPU())
}

// Part is the measurement that a table belongs to.
type Part string

const (
	Compare = Part("compare")
	Direct  = Part("in-process")
	Memory  = Part("memory")
	Growth  = Part("growth") // the first row is what the others are compared to, the last is the same again
	Vanish  = Part("vanish")
	Storm   = Part("storm")
)

// The tokens of a table: seen before, or each seen for the first time.
const Warm, Fresh = "warm", "new"

// The rows of compare, and the scenes of storm.
const (
	Empty, Plain         = "empty", "plain" // a chi handler that does nothing; the plain design
	Verify               = "/v1/verify"
	InProcess, Unbatched = "in-process", "in-process, unbatched"
	GoRedis              = "go-redis alone" // it sends the same commands as a check
	Ceiling              = "redis-benchmark"
	Calm, CalmAgain      = "no flood", "no flood, again"
	Flooded, Unchecked   = "64 clients, one login after another", "the same without checks"
	Crowded              = "1,000 clients that wait as told"
	Rude                 = "64 clients that retry at once"
	Full, FullFlood      = "checks at full speed", "the same beside 16 flooders"
	Stampede             = "10,000 at once"
)

// Figure is the name of a quantity, as it is printed.
type Figure string

// The figures. CPU times are milliseconds for 1,000 checks, which is microseconds for one.
const (
	Rate          = Figure("checks/s")
	P50, P99      = Figure("p50 µs"), Figure("p99 µs")
	CPU, RedisCPU = Figure("CPU"), Figure("Redis CPU")
	Trips         = Figure("trips") // read events of Redis: a round trip is one, and so is a pipeline
	Allocations   = Figure("allocations")

	IdleMB, PeakMB, ResidentMB = Figure("idle MB"), Figure("peak MB"), Figure("resident MB")
	PerSession                 = Figure("bytes in Redis") // of a session with its user's generation

	Left, Declined, Wrong             = Figure("left"), Figure("declined"), Figure("wrong") // see load.Work
	Deadline                          = Figure("deadline ms")
	GoroutinesBefore, GoroutinesAfter = Figure("goroutines"), Figure("afterwards")

	CheckP50, CheckP99      = Figure("check p50 ms"), Figure("check p99 ms")
	ToCalm                  = Figure("× calm") // p99 to that of both calm scenes of the same round, taken together
	LoginShare, Refused     = Figure("logins, of the limit"), Figure("refused")
	Longest, LongestRefusal = Figure("longest ms"), Figure("longest refusal ms")

	// Of these, only the JSON has a column.
	Checks                 = Figure("checks")
	LoadCPU                = Figure("CPU of the load generator") // and of a verifier in the same process
	BcryptLimit, LoginRate = Figure("logins/s that bcrypt allows"), Figure("logins/s")
	SignedIn, Unanswered   = Figure("signed in"), Figure("unanswered")
	Shed, Limited          = Figure("503s"), Figure("429s")
	Prompt                 = Figure("visitors signed in within 5 s")
	Recovery               = Figure("back to normal ms") // after a stampede, until a login was normal
	Dark                   = Figure("/livez failed")
)

// columns are printed in this order, for the tables that have them. Those of maxima are the maximum
// of the rounds; the others are the median.
var (
	columns = []Figure{
		CheckP50, CheckP99, ToCalm, Rate, P50, P99, CPU, RedisCPU, Trips, Allocations, Left, Declined, Wrong, LoginShare, Refused,
		Longest, LongestRefusal, Deadline, GoroutinesBefore, GoroutinesAfter, IdleMB, PeakMB, ResidentMB, PerSession,
	}
	maxima = []Figure{Longest, LongestRefusal, ResidentMB}
)

// Figures are what was measured in one round.
type Figures map[Figure]float64

// Row is one contender, or one scene of a storm.
type Row struct {
	Name   string    `json:"name"`
	Rounds []Figures `json:"rounds"`
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

// Spread is a median with its confidence interval, and the maximum.
type Spread struct{ Median, Low, High, Most float64 }

// newSpread summarizes values as benchstat does: their median and its 95 % confidence interval. With 6
// to 8 values that is their range, and with fewer the range stands in for it. Without any it is NaN.
func newSpread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN(), math.NaN()}
	}
	sample := benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds)
	s := benchmath.AssumeNothing.Summary(sample, 0.95)
	most := sample.Values[len(values)-1]
	return Spread{s.Center, max(s.Lo, sample.Values[0]), min(s.Hi, most), most}
}

func (r *Row) values(f Figure) (values []float64) {
	for _, round := range r.Rounds {
		if value, ok := round[f]; ok {
			values = append(values, value)
		}
	}
	return values
}

// Spread summarizes a figure over the rounds.
func (r *Row) Spread(f Figure) Spread  { return newSpread(r.values(f)) }
func (r *Row) median(f Figure) float64 { return r.Spread(f).Median }
func (r *Row) most(f Figure) float64   { return r.Spread(f).Most }

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
	return newSpread(ratios)
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

func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%s\nFigures are medians of the rounds; the longest times and resident memory are maxima. Ratios are of rates,\n"+
		"round by round. CPU is ms for 1,000 checks; trips are read events of Redis for a check.\n", r.Machine)
	for i := range r.Tables {
		r.Tables[i].print(w)
	}
	fmt.Fprint(w, "\nThresholds\n")
	for _, v := range r.Verdicts {
		fmt.Fprintln(w, v)
	}
	if r.Others.wall > 0 {
		fmt.Fprintf(w, "\nOther programs took %.0f %% of the machine during the turns.\n", 100*r.Others.Share)
	}
	if r.Others.Share > 0.05 {
		fmt.Fprintln(w, "THAT IS TOO MUCH: run it again where nothing else runs.")
	}
	if r.Wrong > 0 {
		fmt.Fprintf(w, "\nWRONG ANSWERS: %d, the first: %s\n", r.Wrong, r.Complaint)
	} else {
		fmt.Fprint(w, "\nEvery answer was checked, and right.\n")
	}
}

func (t *Table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s", t.Name)
	if t.Round > 0 {
		fmt.Fprintf(w, "; %d rounds of %v in turns of %v", len(t.Rows[0].Rounds), t.Round, t.Turn)
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer tab.Flush() //nolint:errcheck // for a person
	fmt.Fprint(tab, "\n\t")
	for _, other := range t.Against {
		fmt.Fprintf(tab, "× %s\tfrom–to\t", other)
	}
	printed := slices.DeleteFunc(slices.Clone(columns), func(f Figure) bool {
		return !slices.ContainsFunc(t.Rows, func(r Row) bool { return len(r.values(f)) > 0 })
	})
	for _, f := range printed {
		fmt.Fprintf(tab, "%s\t", f)
	}
	for _, row := range t.Rows {
		fmt.Fprintf(tab, "\n%s\t", row.Name)
		for _, other := range t.Against {
			s := t.Ratio(Rate, row.Name, other)
			fmt.Fprintf(tab, "%.2f\t%.2f–%.2f\t", s.Median, s.Low, s.High)
		}
		for _, f := range printed {
			value := row.median(f)
			if slices.Contains(maxima, f) {
				value = row.most(f)
			}
			fmt.Fprintf(tab, "%s\t", number(value))
		}
	}
	fmt.Fprintln(tab)
}

// number writes three digits at least. What is unknown or too small to say anything is a dash.
func number(value float64) string {
	switch size := math.Abs(value); {
	case math.IsNaN(value) || value != 0 && size < 0.005:
		return "–"
	case size < 10 && value != math.Trunc(value):
		return fmt.Sprintf("%.2f", value)
	case size < 100 && value != math.Trunc(value):
		return fmt.Sprintf("%.1f", value)
	default:
		return fmt.Sprintf("%.0f", value)
	}
}
