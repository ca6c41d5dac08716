package faultsuite

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// row is one row of the matrix while it runs.
type row struct {
	*load
	t       *testing.T
	fault   fault
	probe   *person // its sessions show whether all is well
	n       int     // injections
	done    int
	stopped time.Duration   // when the load ended
	after   time.Duration   // how long the load goes on after the last recovery
	took    []time.Duration // after each injection, until each replica answered checks
	acked   []time.Duration // after each injection, until a revocation was acknowledged
	notes   []string        // more figures for the line
}

// runRow runs the load, injects the fault n times, and judges what was recorded.
func runRow(t *testing.T, rig *rig, f fault, n int) {
	t.Logf("row %d, %s, on %v: %d injections. Promise: %s", f.number, f.name, rig.topology, n, f.promise)
	r := &row{load: newLoad(rig), t: t, fault: f, n: n, after: 2 * time.Second}
	if isLong() {
		r.after = 10 * time.Second
	}
	if recorded() {
		r.after = time.Minute
	}
	r.enrol(t, peopleCount, sessionsEach)
	if r.behind = f.behind; !f.quiet {
		perSecond := *rate
		if f.behind && recorded() {
			perSecond = max(perSecond, 500) // at least 100,000 requests
		}
		r.load.run(perSecond)
	}
	t.Cleanup(r.stop) // if the row fails early
	r.probe = r.newPerson(2)
	r.awaitWell()
	f.run(r)
	r.wait(r.after)
	r.stop()
	r.stopped = r.now()
	r.awaitWell()
	r.sweep()
	r.useRefreshTokens()
	r.conclude()
}

// wait lets the load go on for a while.
func (r *row) wait(d time.Duration) {
	r.t.Helper()
	select {
	case <-time.After(d):
	case <-r.t.Context().Done():
		r.t.FailNow()
	}
}

// newPerson returns a new user whose only logins and revocations are the row's own steps.
func (r *row) newPerson(sessions int) *person {
	r.t.Helper()
	p := r.enrol(r.t, 1, sessions)[0]
	return p
}

// each injects a fault as often as the row wants, each time with hold between inject and heal.
func (r *row) each(hold time.Duration, inject, heal func()) {
	r.t.Helper()
	for range r.n {
		r.inject(func() {
			inject()
			r.wait(hold)
			heal()
		})
	}
}

// inject runs one injection and measures how long the service then takes to recover. One session is
// revoked right before it, and one right after it.
func (r *row) inject(f func()) {
	r.t.Helper()
	r.revokeSome(1)
	spare := r.login(r.probe, r.rig.replicas[0])
	r.begin()
	f()
	r.healed()
	began := time.Now()
	r.awaitWell()
	r.took = append(r.took, time.Since(began))
	if spare != nil {
		await(r.t, "a revocation is acknowledged", func() bool {
			return r.revokeOne(r.probe, r.probe.active()[0], spare, r.rig.replicas[r.done%3]).answer == good
		})
	}
	r.acked = append(r.acked, time.Since(began))
	r.done++
	r.progress()
}

// awaitWell waits until every replica answers checks of an active session, three times in a row.
func (r *row) awaitWell() {
	r.t.Helper()
	s := r.probe.active()[0]
	for _, at := range r.rig.replicas {
		streak := 0
		await(r.t, "checks at "+at.name()+" are answered", func() bool {
			if streak++; r.check(r.probe, s, at).answer != good {
				streak = 0
			}
			return streak == 3
		})
	}
}

// promised adds figures to the row's line. In the long form, which wants a quiet machine, the row
// fails if they are not as promised.
func (r *row) promised(ok bool, format string, args ...any) {
	r.t.Helper()
	r.notef(format, args...)
	if !ok && isLong() {
		r.t.Errorf("row %d: not as promised: "+format, append([]any{r.fault.number}, args...)...)
	}
}

// notef adds figures to the row's line.
func (r *row) notef(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// revokeSome signs the probe in and revokes that session, n times through the replicas in turn. It
// returns how many revocations were acknowledged.
func (r *row) revokeSome(n int) (acked int) {
	p := r.probe
	for i := range n {
		at := r.rig.replicas[i%3]
		if s := r.login(p, at); s != nil {
			r.check(p, s, at)
			if r.revokeOne(p, p.active()[0], s, at).answer == good {
				acked++
			}
		}
	}
	return acked
}

func (r *row) progress() {
	r.mu.Lock()
	ops := len(r.ops)
	r.mu.Unlock()
	if isLong() && (r.n < 20 || r.done%10 == 0) {
		r.t.Logf("row %d: injection %d of %d, %d requests, checks answered again after %v", r.fault.number, r.done, r.n, ops, r.took[len(r.took)-1].Round(time.Millisecond))
	}
}

// conclude judges the history, prints the row's line and draws its picture.
func (r *row) conclude() {
	r.t.Helper()
	c := r.count()
	c.lostLogins = r.missingLogins()
	wrong := r.judge()
	r.compare(c)
	r.t.Log(r.line(c))
	if *timelineDir != "" && len(r.faults) > 0 {
		r.draw(*timelineDir, c.wrong)
	}
	bad := c.accepted+c.refused+c.lostLogins+c.lostRefreshes+len(wrong)+len(r.complain) > 0
	if !bad {
		return
	}
	for _, text := range c.first {
		r.t.Log(text)
	}
	slices.Sort(wrong)
	if len(wrong) > 0 {
		r.t.Logf("porcupine: no correct service produces the history of %d sessions, such as %d:\n%s", len(wrong), wrong[0], r.story(wrong[0]))
	}
	for _, text := range r.complain[:min(5, len(r.complain))] {
		r.t.Log(text)
	}
	r.t.Logf("%s", r.rig.complaints())
	r.t.Errorf("row %d, %s: the promise is broken", r.fault.number, r.fault.name)
}

// compare compares the figures with the row's limits.
func (r *row) compare(c counts) {
	r.t.Helper()
	l := r.fault.limits
	if l.answered > 0 {
		r.promised(c.answered() >= l.answered, "promised: at least %v %% answered", l.answered)
	}
	if l.p99 > 0 {
		r.promised(c.p99 <= l.p99, "promised: p99 at most %v", l.p99)
	}
	if l.recovery > 0 && len(r.took) > 0 {
		r.promised(slices.Max(r.took) <= l.recovery, "promised: checks answered again within %v", l.recovery)
	}
}

// spread returns the median and the worst of some times.
func spread(times []time.Duration) string {
	if len(times) == 0 {
		return "none"
	}
	times = slices.Sorted(slices.Values(times))
	return fmt.Sprintf("%v median, %v worst", times[len(times)/2].Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond))
}

// line is what a row prints at the end.
func (r *row) line(c counts) string {
	text := fmt.Sprintf("row %d, %s: injections %d · checks %d · revocations acknowledged %d, logins %d, refreshes %d"+
		" · accepted after it %d · wrong 401 %d · lost logins %d · lost refresh tokens %d · revived %d"+
		" · during the fault %.2f %% of %d checks answered, p99 %v, worst %v · checks answered again after %s · revocations acknowledged again after %s",
		r.fault.number, r.fault.name, r.done, c.checks, c.revokes, c.logins, c.refreshes,
		c.accepted, c.refused, c.lostLogins, c.lostRefreshes, c.revived,
		c.answered(), c.during, c.p99.Round(time.Millisecond), c.worst.Round(time.Millisecond), spread(r.took), spread(r.acked))
	for _, note := range r.notes {
		text += " · " + note
	}
	return text
}

// missingLogins counts the acknowledged logins that Postgres does not know.
func (r *row) missingLogins() (missing int) {
	r.t.Helper()
	known := map[string]bool{}
	rows, err := r.rig.db.QueryContext(context.Background(), "SELECT id FROM sessions")
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			r.t.Fatal(err)
		}
		known[id] = true
	}
	if err := rows.Err(); err != nil {
		r.t.Fatal(err)
	}
	r.logins.Range(func(name, _ any) bool {
		if !known[name.(string)] {
			missing++
		}
		return true
	})
	return missing
}

// story lists what happened to a session, for a failed test: everything but checks that went well
// among others that went well.
func (r *row) story(id int) (text string) {
	ops := r.bySession()[id]
	slices.SortFunc(ops, func(a, b op) int { return int(a.start - b.start) })
	plain := func(i int) bool { return i < 0 || i >= len(ops) || ops[i].kind == check && ops[i].answer == good }
	kinds := [...]string{"login", "check", "refresh", "revoke", "revoke others", "revoke all"}
	answers := [...]string{"good", "refused", "no answer", "odd"}
	for i, o := range ops {
		if plain(i-1) && plain(i) && plain(i+1) {
			continue
		}
		if i > 0 && i+1 < len(ops) && ops[i-1].kind == o.kind && ops[i-1].answer == o.answer && ops[i+1].kind == o.kind && ops[i+1].answer == o.answer {
			continue
		}
		text += fmt.Sprintf("  %10v to %10v  %s at %s: %s\n", o.start.Round(time.Millisecond), o.end.Round(time.Millisecond), kinds[o.kind], o.at, answers[o.answer])
	}
	if len(text) > 6000 {
		text = text[:3000] + "  …\n" + text[len(text)-3000:]
	}
	return text
}
