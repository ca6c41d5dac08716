package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

func (l *logins) String() string {
	if l == nil {
		return "no logins"
	}
	return fmt.Sprintf("%d signed in (%.1f/s), %d shed, %d limited, longest %.0f ms, longest shed %.0f ms", l.SignedIn, l.Rate, l.Shed, l.Limited, l.Longest, l.LongestShed)
}

// scene returns what was seen of a scene.
func (st *storming) scene(name string) *scene {
	i := slices.IndexFunc(st.Scenes, func(sc scene) bool { return sc.Name == name })
	return &st.Scenes[i]
}

// median of a figure, over the rounds.
func (sc *scene) median(of func(*weather) float64) float64 {
	values := make([]float64, len(sc.Rounds))
	for i := range sc.Rounds {
		values[i] = of(&sc.Rounds[i])
	}
	return median(values)
}

// most is the greatest of a figure.
func (sc *scene) most(of func(*weather) float64) float64 {
	most := 0.0
	for i := range sc.Rounds {
		most = max(most, of(&sc.Rounds[i]))
	}
	return most
}

// The figures of a turn.
func checkP50(w *weather) float64   { return w.P50 }
func checkP99(w *weather) float64   { return w.P99 }
func checkRate(w *weather) float64  { return w.Rate }
func loginShare(w *weather) float64 { return w.Share }
func resident(w *weather) float64   { return w.Resident }
func dark(w *weather) float64       { return float64(w.Dark) }
func back(w *weather) float64       { return w.Back }

// ofLogins is a figure of those who flood, 0 where there are none.
func ofLogins(of func(*logins) float64) func(*weather) float64 {
	return func(w *weather) float64 {
		if w.Logins == nil {
			return 0
		}
		return of(w.Logins)
	}
}

func longest(l *logins) float64     { return l.Longest }
func longestShed(l *logins) float64 { return l.LongestShed }
func turnedAway(l *logins) float64  { return float64(l.Shed + l.Limited) }
func unanswered(l *logins) float64  { return float64(l.Unanswered) }

// toCalm is the median, over the rounds, of a scene's p99 to that of the calm
// before and after, taken together.
func (st *storming) toCalm(name string) float64 {
	var ratios []float64
	for i, w := range st.scene(name).Rounds {
		waits := slices.Concat(st.scene(calm).Rounds[i].checks, st.scene(calmAgain).Rounds[i].checks)
		slices.Sort(waits)
		ratios = append(ratios, w.P99/millis(percentile(waits, 99)))
	}
	return median(ratios)
}

// toFull is the rate of checks at full speed beside flooders to that without.
func (st *storming) toFull() float64 {
	var ratios []float64
	for i, w := range st.scene(fullFlood).Rounds {
		ratios = append(ratios, w.Rate/st.scene(full).Rounds[i].Rate)
	}
	return median(ratios)
}

// noise is how far apart the p99 of the two calms are, greater to smaller.
func (st *storming) noise() float64 {
	var ratios []float64
	for i, w := range st.scene(calm).Rounds {
		again := st.scene(calmAgain).Rounds[i]
		ratios = append(ratios, max(w.P99/again.P99, again.P99/w.P99))
	}
	return median(ratios)
}

func (r *report) printStorms(out io.Writer) {
	if len(r.Storms) == 0 {
		return
	}
	fmt.Fprintf(out, "\nA flood of logins beside checks, %d a second unless said; medians of %d rounds of %v, but the longest and most of all.\n", steadyRate, r.Config.Rounds, r.Config.Round)
	for i := range r.Storms {
		r.Storms[i].print(out)
	}
}

func (st *storming) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s; the p99 of the two calms differ by a factor of %.2f\n", st.Name, st.noise())
	tab := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer tab.Flush() //nolint:errcheck // into memory
	fmt.Fprint(tab, "\tcheck p50 ms\tp99 ms\t× calm\tchecks/s\tlogins, of the limit\tturned away\tlongest ms\tthat was turned away\tMB\t\n")
	for i := range st.Scenes {
		sc := &st.Scenes[i]
		toCalm := "–"
		if sc.median(checkP99) > 0 && sc.Name != full && sc.Name != fullFlood {
			toCalm = fmt.Sprintf("%.2f", st.toCalm(sc.Name))
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.0f\t\n", sc.Name,
			orDash("%.1f", sc.median(checkP50)), orDash("%.1f", sc.median(checkP99)), toCalm, orDash("%.0f", sc.median(checkRate)),
			orDash("%.2f", sc.median(loginShare)), orDash("%.0f", sc.median(ofLogins(turnedAway))),
			orDash("%.0f", sc.most(ofLogins(longest))), orDash("%.0f", sc.most(ofLogins(longestShed))), sc.most(resident))
	}
}

// stormThresholds are what is promised of a flood.
func stormThresholds(st *storming) []threshold {
	const times, number, ms = "%.2f ×", "%.0f", "%.0f ms"
	who := "storm, " + st.Name + ", "
	atMost := func(what string, limit, aim float64, format string, value float64) threshold {
		return threshold{what: who + what, atMost: true, limit: limit, aim: aim, format: format, figure: fixed(value)}
	}
	atLeast := func(what string, limit, aim float64, value float64) threshold {
		return threshold{what: who + what, limit: limit, aim: aim, format: times, figure: fixed(value)}
	}
	crowd, mob, rush := st.scene(crowded), st.scene(mobbed), st.scene(stampeded)
	list := []threshold{
		atMost("check p99 beside 64 clients, to calm", 3, 1.5, times, st.toCalm(flooded)),
		atLeast("logins of 64 clients, to the bcrypt limit", 0.65, 0.80, st.scene(flooded).median(loginShare)),
		atLeast("logins without checks, to the bcrypt limit", 0.90, 0, st.scene(unchecked).median(loginShare)),
		atMost("check p99 beside a crowd, to calm", 2, 0, times, st.toCalm(crowded)),
		atLeast("logins of a crowd, to the bcrypt limit", 0.75, 0.85, crowd.median(loginShare)),
		atMost("longest answer to one of a crowd", millis(5*time.Second), 0, ms, crowd.most(ofLogins(longest))),
		atMost("longest answer to one of a crowd that was turned away", 50, 0, ms, crowd.most(ofLogins(longestShed))),
		atMost("/livez failed", 0, 0, number, crowd.most(dark)+mob.most(dark)+rush.most(dark)),
		atMost("check p99 beside those who come back at once, to calm", 5, 0, times, st.toCalm(mobbed)),
		atLeast("rate of checks beside 16 flooders, to that without", 0.70, 0, st.toFull()),
		atLeast("logins beside checks at full speed, to the bcrypt limit", 0.15, 0, st.scene(fullFlood).median(loginShare)),
		atMost("unanswered of 10,000 at once", 0, 0, number, rush.most(ofLogins(unanswered))),
		atMost("back to normal after 10,000 at once", millis(5*time.Second), 0, ms, rush.most(back)),
		atMost("resident, with the process that hashes", memoryLimit, 0, "%.0f MB", max(crowd.most(resident), rush.most(resident))),
	}
	for i, w := range mob.Rounds {
		list = append(list, threshold{
			what:  fmt.Sprintf("%speople at other addresses who sign in within 5 s, round %d", who, i+1),
			limit: float64(visitors), format: number, figure: fixed(float64(w.Others.within(5 * time.Second))),
		})
	}
	return list
}

// memoryLimit is what a flood may make of a replica, in MB.
const memoryLimit = 600

// within is how many signed in within d, at the first try.
func (l *logins) within(d time.Duration) (n int) {
	for _, took := range l.waits {
		if took <= d {
			n++
		}
	}
	return n
}
