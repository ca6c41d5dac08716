package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that a run has found.
type report struct {
	Machine    machine     `json:"machine"`
	Config     config      `json:"config"`
	Comparison *comparison `json:"comparison,omitempty"`
	Memory     *memoryUse  `json:"memory,omitempty"`
	Growth     *growing    `json:"growth,omitempty"`
	Vanishing  []vanishing `json:"vanish,omitempty"`
	Storms     []storming  `json:"storm,omitempty"`
	Others     others      `json:"others"`
	Verdicts   []verdict   `json:"thresholds"`
	Wrong      int         `json:"wrong_answers"`
	Complaint  string      `json:"first_wrong_answer,omitempty"`
}

// complain keeps count of the wrong answers of a contender.
func (r *report) complain(name string, w *work) {
	if r.Wrong == 0 && w.wrong > 0 {
		r.Complaint = name + ": " + w.complaint
	}
	r.Wrong += w.wrong
}

// others are the programs that took time on the machine and no part in this, the
// host of a virtual machine among them.
type others struct {
	Share float64 `json:"share"` // of all CPUs, over all turns

	taken, wall time.Duration
}

func (o *others) add(spent clocks) {
	o.taken += max(0, spent.machine-spent.self-spent.process-spent.redis.cpu)
	o.wall += spent.wall
	o.Share = float64(o.taken) / float64(o.wall) / float64(runtime.NumCPU())
}

// tolerable is the share above which figures are not worth keeping.
const tolerable = 0.05

// publish prints the report and writes the files that were asked for.
func (r *report) publish(c config, stdout io.Writer) error {
	if err := r.print(stdout); err != nil {
		return err
	}
	if c.jsonFile != "" {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the report: %w", err)
		}
		if err := writeFile(c.jsonFile, append(data, '\n')); err != nil {
			return err
		}
	}
	if c.svgFile == "" {
		return nil
	}
	growthFile := c.svgFile
	if r.Comparison != nil {
		if err := writeFile(c.svgFile, plotComparison(r)); err != nil {
			return err
		}
		ext := filepath.Ext(c.svgFile)
		growthFile = strings.TrimSuffix(c.svgFile, ext) + "-growth" + ext
	}
	if r.Growth != nil {
		return writeFile(growthFile, plotGrowth(r))
	}
	if len(r.Storms) > 0 {
		return writeFile(c.svgFile, plotStorms(r))
	}
	return nil
}

func writeFile(path string, data []byte) error {
	if err := os.WriteFile(path, data, 0o644); err != nil { //nolint:gosec // G306: figures, for everybody to read
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// print writes the report for people.
func (r *report) print(stdout io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores\n", r.Machine.String(), r.Machine.Cores)
	if c := r.Comparison; c != nil {
		fmt.Fprintf(&b, "Medians of %d rounds of %v, taking turns of %v; with 1 and 2 goroutines of %d rounds and turns of %v.\n",
			r.Config.Rounds, r.Config.Round, r.Config.Round/passes, fineRounds*r.Config.Rounds, r.Config.Round/finePasses)
		b.WriteString("Ratios are of rates, round by round; CPU is ms for 1,000 checks, trips are read events of Redis for a check.\n")
		for i := range c.Settings {
			c.Settings[i].print(&b)
		}
		for i := range c.InProcess {
			c.InProcess[i].print(&b)
		}
		fmt.Fprintf(&b, "\nA warm check without HTTP allocates %.1f times; go-redis alone, asking the same, %.1f times.\n", c.Allocations.Check, c.Allocations.GoRedis)
		fmt.Fprintf(&b, "The service is %s resident after all this.\n", megabytes(c.Resident))
	}
	if m := r.Memory; m != nil {
		fmt.Fprintf(&b, "\n%d live sessions, each checked once: the service is %s resident (%s idle, %s at most);\nRedis holds %.0f bytes for each.\n",
			m.Sessions, megabytes(m.Resident), megabytes(m.Idle), megabytes(m.Peak), m.PerSession)
	}
	if g := r.Growth; g != nil {
		g.Setting.print(&b)
	}
	r.printVanishing(&b)
	r.printStorms(&b)
	r.printVerdicts(&b)
	if r.Others.wall > 0 {
		fmt.Fprintf(&b, "\nOther programs took %.0f %% of the machine meanwhile.\n", 100*r.Others.Share)
		if r.Others.Share > tolerable {
			b.WriteString("THAT IS TOO MUCH: run it again where nothing else runs.\n")
		}
	}
	if r.Wrong > 0 {
		fmt.Fprintf(&b, "\nWRONG ANSWERS: %d, the first: %s\n", r.Wrong, r.Complaint)
	} else {
		b.WriteString("\nEvery answer was checked, and right.\n")
	}
	_, err := io.WriteString(stdout, b.String())
	return err
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }

// print writes a setting as a table, numbers aligned at their ends.
func (t *setting) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", t.Name)
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer tab.Flush() //nolint:errcheck // into memory
	fmt.Fprint(tab, "\t")
	for _, other := range t.Against {
		fmt.Fprintf(tab, "× %s\tfrom–to\t", other)
	}
	fmt.Fprint(tab, "checks/s\tp50 µs\tp99 µs\tCPU\tRedis CPU\ttrips\t\n")
	for i := range t.Rows {
		row := &t.Rows[i]
		m := &row.Median
		fmt.Fprintf(tab, "%s\t", row.Name)
		for _, other := range t.Against {
			against, ok := row.Against[other]
			if !ok {
				fmt.Fprint(tab, "–\t\t")
				continue
			}
			fmt.Fprintf(tab, "%.2f\t%.2f–%.2f\t", against.Median, against.Least, against.Most)
		}
		fmt.Fprintf(tab, "%.0f\t%.0f\t%.0f\t%s\t%s\t%s\t\n", m.Rate, m.P50, m.P99, orDash("%.1f", m.CPU), orDash("%.1f", m.RedisCPU), orDash("%.2f", m.RedisReads))
	}
}

// orDash leaves out what is not told, or so small that it says nothing.
func orDash(format string, value float64) string {
	if math.Abs(value) < 0.005 || math.IsNaN(value) {
		return "–"
	}
	return fmt.Sprintf(format, value)
}

func (r *report) printVanishing(w io.Writer) {
	if len(r.Vanishing) == 0 {
		return
	}
	fmt.Fprintf(w, "\nOne client of %d leaves without its answer, %d at once for %v; Redis holds one reply back for %v.\n", leaveEvery, principal, r.Config.Duration, held)
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer tab.Flush() //nolint:errcheck // into memory
	fmt.Fprint(tab, "\tchecks\tchecks/s\tleft\tdeclined\twrong\tp99 µs\tlongest ms\tdeadline ms\tgoroutines\t\n")
	for _, v := range r.Vanishing {
		fmt.Fprintf(tab, "%s\t%d\t%.0f\t%d\t%d\t%d\t%.0f\t%.0f\t%.0f\t%d → %d\t\n",
			v.Name, v.Checks, v.Rate, v.Vanished, v.Declined, v.Wrong, v.P99, v.Longest, v.Deadline, v.GoroutinesBefore, v.GoroutinesAfter)
	}
}

func (r *report) printVerdicts(w io.Writer) {
	if len(r.Verdicts) == 0 {
		return
	}
	fmt.Fprint(w, "\nThresholds\n")
	for _, v := range r.Verdicts {
		mark := "ok  "
		if !v.Holds {
			mark = "MISS"
		}
		aim := ""
		if v.Aim != "" {
			aim = ", aim " + v.Aim + map[bool]string{true: " reached", false: " not reached"}[v.Aimed]
		}
		fmt.Fprintf(w, "%s  %s: %s (%s%s)\n", mark, v.What, v.text, v.Limit, aim)
	}
}
