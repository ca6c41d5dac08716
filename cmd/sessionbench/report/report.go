// Package report holds the results of a run, summarizes them with benchstat's statistics, compares
// them to thresholds and prints them.
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

// Report holds the results of one run of sessionbench.
type Report struct {
	Machine   string    `json:"machine"`
	Config    any       `json:"config"`
	Service   string    `json:"service"` // name of the sessiond build to which the thresholds apply
	Tables    []Table   `json:"tables"`
	Others    Others    `json:"others"`
	Verdicts  []Verdict `json:"thresholds"`
	Missed    int       `json:"missed_thresholds"`
	Wrong     int       `json:"wrong_answers"`
	Complaint string    `json:"first_wrong_answer,omitempty"`
}

// Complain adds wrong answers of a contender. Only the text of the first complaint is kept.
func (r *Report) Complain(name string, wrong int, complaint string) {
	if r.Wrong == 0 && wrong > 0 {
		r.Complaint = name + ": " + complaint
	}
	r.Wrong += wrong
}

// Others is the CPU time that unrelated programs took while contenders were measured. It includes
// the time that a virtual machine's host took away.
type Others struct {
	Share       float64 `json:"share"` // part of the CPU time of all cores, 0 to 1
	taken, wall time.Duration
}

// Add adds the CPU times of one turn, during which one contender was measured.
func (o *Others) Add(spent probe.Clocks) {
	o.taken += max(0, spent.Machine-spent.Self-spent.Process-spent.Redis)
	o.wall += spent.Wall
	o.Share = float64(o.taken) / float64(o.wall) / float64(runtime.NumCPU())
}

// Part is the name of a measurement. Each table belongs to one measurement.
type Part string

const (
	Compare = Part("compare")
	Direct  = Part("in-process")
	Memory  = Part("memory")
	Growth  = Part("growth") // all rows are compared to the first row; the last row measures the same again, to show the noise
	Vanish  = Part("vanish")
	Storm   = Part("storm")
	Size    = Part("size")
)

// Kinds of tokens: warm ones were checked before, and new ones are checked for the first time.
const Warm, Fresh = "warm", "new"

// Names of table rows. Those before Calm are implementations of a token check, which compare and
// in-process measure. The others are kinds of load on sessiond, which storm measures.
const (
	Empty, Plain         = "empty", "plain" // Empty is an HTTP handler that does nothing; Plain is a simple design of token checks
	Verify               = "/v1/verify"
	CheckPort, ExtAuthz  = "check port", "gRPC ext_authz" // sessiond's listeners for gateways
	InProcess, Unbatched = "in-process", "in-process, unbatched"
	GoRedis              = "go-redis alone" // sends Redis the commands of a token check, but verifies nothing
	Ceiling              = "redis-benchmark"
	Calm, CalmAgain      = "no flood", "no flood, again"
	Flooded, Unchecked   = "64 clients, one login after another", "the same without checks"
	Crowded              = "1,000 clients that wait as told"
	Rude                 = "64 clients that retry at once"
	Full, FullFlood      = "checks at full speed", "the same beside 16 flooders"
	Stampede             = "10,000 at once"
)

// Figure is the name of a measured quantity, both in printed tables and in the JSON.
type Figure string

// CPU times are milliseconds per 1,000 checks, which equals microseconds per check.
const (
	Rate          = Figure("checks/s")
	P50, P99      = Figure("p50 µs"), Figure("p99 µs")
	CPU, RedisCPU = Figure("CPU"), Figure("Redis CPU")
	Trips         = Figure("trips") // how many times Redis reads from a connection, per check; a whole pipeline is read once
	Allocations   = Figure("allocations")

	IdleMB, PeakMB, ResidentMB = Figure("idle MB"), Figure("peak MB"), Figure("resident MB")
	PerSession                 = Figure("bytes in Redis") // memory that one session takes in Redis, with the key of its user

	Left, Declined, Wrong             = Figure("left"), Figure("declined"), Figure("wrong") // the counts Vanished, Declined and Wrong of load.Work
	Deadline                          = Figure("deadline ms")
	GoroutinesBefore, GoroutinesAfter = Figure("goroutines"), Figure("afterwards")

	CheckP50, CheckP99      = Figure("check p50 ms"), Figure("check p99 ms")
	ToCalm                  = Figure("× calm") // p99 of checks, divided by their p99 without a flood of logins in the same round
	LoginShare, Refused     = Figure("logins, of the limit"), Figure("refused")
	Longest, LongestRefusal = Figure("longest ms"), Figure("longest refusal ms")

	Used      = Figure("of its CPU")            // CPU that the limited containers used, as a share of what they may use
	LoadCores = Figure("load generator, cores") // CPU of the load generator

	// The following figures are only in the JSON, and not in printed tables.
	Checks                 = Figure("checks")
	LoadCPU                = Figure("CPU of the load generator") // if a verifier in the same process is measured, its CPU time is included
	BcryptLimit, LoginRate = Figure("logins/s that bcrypt allows"), Figure("logins/s")
	SignedIn, Unanswered   = Figure("signed in"), Figure("unanswered")
	Shed, Limited          = Figure("503s"), Figure("429s")
	Prompt                 = Figure("visitors signed in within 5 s")
	Recovery               = Figure("back to normal ms") // time from the answers to 10,000 logins at once until a login again takes at most 1 s
	Dark                   = Figure("/livez failed")
)

// columns lists the columns of printed tables in their order. A table has only the columns that were
// measured. A column in maxima shows the maximum of all rounds, any other column shows the median.
var (
	columns = []Figure{
		CheckP50, CheckP99, ToCalm, Rate, P50, P99, CPU, RedisCPU, Trips, Used, LoadCores, Allocations, Left, Declined, Wrong, LoginShare, Refused,
		Longest, LongestRefusal, Deadline, GoroutinesBefore, GoroutinesAfter, IdleMB, PeakMB, ResidentMB, PerSession,
	}
	maxima = []Figure{Declined, Longest, LongestRefusal, ResidentMB}
)

// Figures holds the values measured in one round.
type Figures map[Figure]float64

// Row holds the figures of one contender, or of one kind of load in storm.
type Row struct {
	Name   string    `json:"name"`
	Rounds []Figures `json:"rounds"`
}

// Table is one table of the report. Its rows were measured in turns.
type Table struct {
	Part    Part          `json:"part"`
	Name    string        `json:"name"`
	Callers int           `json:"callers,omitempty"` // number of concurrent connections or goroutines
	Alg     string        `json:"algorithm,omitempty"`
	Tokens  string        `json:"tokens,omitempty"`  // Warm or Fresh
	Against []string      `json:"against,omitempty"` // names of the rows to which all rows are compared
	Round   time.Duration `json:"round_ns,omitempty"`
	Turn    time.Duration `json:"turn_ns,omitempty"` // how long a contender is measured before the next contender
	Rows    []Row         `json:"rows"`
}

// Spread is a median, its 95 % confidence interval from Low to High, and the maximum Most.
type Spread struct{ Median, Low, High, Most float64 }

// newSpread returns the median and its 95 % confidence interval, as benchstat does. For up to 8
// values the interval is their range. Without values, all fields are NaN.
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

// Spread summarizes a row's figure over all rounds.
func (r *Row) Spread(f Figure) Spread  { return newSpread(r.values(f)) }
func (r *Row) median(f Figure) float64 { return r.Spread(f).Median }
func (r *Row) most(f Figure) float64   { return r.Spread(f).Most }

// Row returns the row with that name, or a row whose figures are NaN if there is none.
func (t *Table) Row(name string) *Row {
	if i := slices.IndexFunc(t.Rows, func(r Row) bool { return r.Name == name }); i >= 0 {
		return &t.Rows[i]
	}
	return &Row{}
}

// Ratio divides the figure f of one row by that of another row, round by round. A slow phase of the
// machine changes both figures, but not their ratio. The result is NaN if one row lacks f.
func (t *Table) Ratio(f Figure, name, to string) Spread {
	of, by := t.Row(name).values(f), t.Row(to).values(f)
	var ratios []float64
	for i := range min(len(of), len(by)) {
		ratios = append(ratios, of[i]/by[i])
	}
	return newSpread(ratios)
}

// Of returns all tables of one measurement.
func (r *Report) Of(part Part) (tables []*Table) {
	for i := range r.Tables {
		if r.Tables[i].Part == part {
			tables = append(tables, &r.Tables[i])
		}
	}
	return tables
}

func (r *Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%s\nFigures are medians of the rounds; declined checks, the longest times and resident memory are maxima. Ratios are of rates,\n"+
		"round by round. CPU is ms for 1,000 checks; trips are read events of Redis for a check.\n", r.Machine)
	for i := range r.Tables {
		r.Tables[i].print(w)
	}
	if len(r.Verdicts) > 0 {
		fmt.Fprint(w, "\nThresholds\n")
	}
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
	defer tab.Flush() //nolint:errcheck // a failed print cannot be reported
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

// number formats a value with up to two decimals, or as a dash if it is NaN or not 0 but below 0.005.
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
