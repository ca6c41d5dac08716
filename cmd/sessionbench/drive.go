package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// work is what came of asking a contender for a while.
type work struct {
	checks    int // that were answered
	took      time.Duration
	p50, p99  time.Duration
	longest   time.Duration
	waits     []time.Duration // sorted
	wrong     int
	complaint string // about the first wrong answer
	vanished  int    // that were given up by their caller
	declined  int    // that got an error in place of an answer, where those are expected
}

// What asking may come to, but for an answer that is right (nil).
var (
	errWrong    = errors.New("wrong answer")
	errVanished = errors.New("the caller left")
	errDeclined = errors.New("no answer")
)

// asker asks one question as the caller of that number, 0 and up. An error
// that is none of the three above ends the run.
type asker func(ctx context.Context, caller int, r *request) error

// drive asks as n callers at once, each one question after another, until d is
// over, the supply is, or ctx.
func drive(ctx context.Context, n int, d time.Duration, from *supply, ask asker) (work, error) {
	each := make([]caller, n)
	var failed error
	var once sync.Once
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now()
	var running sync.WaitGroup
	for i := range each {
		running.Go(func() {
			if err := each[i].run(ctx, i, begin.Add(d), from, ask); err != nil {
				once.Do(func() { failed = err })
				cancel()
			}
		})
	}
	running.Wait()
	took := time.Since(begin)
	if failed != nil {
		return work{}, failed
	}
	return gather(each, took), nil
}

// caller is what one caller saw.
type caller struct {
	waits              []time.Duration
	wrong              int
	complaint          string
	vanished, declined int
}

func (c *caller) run(ctx context.Context, number int, end time.Time, from *supply, ask asker) error {
	for now := time.Now(); now.Before(end) && ctx.Err() == nil; {
		r := from.take()
		if r == nil {
			return nil
		}
		err := ask(ctx, number, r)
		before := now
		now = time.Now()
		switch {
		case err == nil:
		case errors.Is(err, errWrong):
			if c.wrong++; c.complaint == "" {
				c.complaint = err.Error()
			}
		case errors.Is(err, errDeclined):
			c.declined++
		case errors.Is(err, errVanished):
			c.vanished++
			continue
		default:
			return err
		}
		c.waits = append(c.waits, now.Sub(before))
	}
	return ctx.Err()
}

func gather(each []caller, took time.Duration) work {
	w := work{took: took}
	var waits []time.Duration
	for i := range each {
		c := &each[i]
		waits = append(waits, c.waits...)
		w.wrong += c.wrong
		w.vanished += c.vanished
		w.declined += c.declined
		if w.complaint == "" {
			w.complaint = c.complaint
		}
	}
	w.checks = len(waits)
	w.sort(waits)
	return w
}

func (w *work) sort(waits []time.Duration) {
	slices.Sort(waits)
	w.waits = waits
	w.p50, w.p99, w.longest = percentile(waits, 50), percentile(waits, 99), percentile(waits, 100)
}

// add adds what the same contender did later. Its waits are not sorted then, and the
// percentiles of no use, until sort.
func (w *work) add(o work) {
	if w.took == 0 {
		*w = o
		return
	}
	w.checks += o.checks
	w.took += o.took
	w.wrong += o.wrong
	w.vanished += o.vanished
	w.declined += o.declined
	if w.complaint == "" {
		w.complaint = o.complaint
	}
	w.waits = append(w.waits, o.waits...)
}

// overHTTP asks by clients, one for each caller, and holds every answer to what
// it has to be. named: the answer names the session, as /v1/verify does.
func overHTTP(cs clients, named bool) asker {
	return func(_ context.Context, caller int, r *request) error {
		a, err := cs[caller].ask(r.wire)
		if err != nil {
			return err
		}
		return a.judge(r, named)
	}
}

func (a *answer) judge(r *request, named bool) error {
	want := http.StatusOK
	if r.revoked {
		want = http.StatusUnauthorized
	}
	switch {
	case a.status != want:
		return fmt.Errorf("%w: status %d in place of %d", errWrong, a.status, want)
	case named && !r.revoked && string(a.session) != r.session:
		return fmt.Errorf("%w: session %q in place of %q", errWrong, a.session, r.session)
	default:
		return nil
	}
}
