package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/identity"
)

// storming is what storm finds: what a flood of logins does to checks, and
// checks to logins.
type storming struct {
	// Limit is how many hashes a second all cores make that do nothing else.
	Limit  float64      `json:"bcrypt_per_second"`
	Floods []stormRound `json:"rounds"`
}

// weather is one scene of a storm.
type weather struct {
	Name   string  `json:"name"`
	P50    float64 `json:"check_p50_ms"`
	P99    float64 `json:"check_p99_ms"`
	Rate   float64 `json:"checks_per_second"`
	Logins *logins `json:"logins,omitempty"`
	Others *logins `json:"logins_of_others,omitempty"`
	Memory float64 `json:"resident_mb"`
	Dark   int     `json:"livez_failed"`
}

// stormRound are the scenes of one round, by name.
type stormRound []weather

// The scenes, in the order in which they take turns.
const (
	calm      = "no flood"
	calmAgain = "no flood, again"
	flooded   = "64 clients, one login after another"
	unchecked = "the same without checks"
	crowd     = "1,000 clients that come back when told to"
	mob       = "64 clients that come back at once"
	full      = "checks at full speed"
	fullFlood = "checks at full speed, 16 flooders"
)

// setting of a scene.
type scene struct {
	name   string
	checks bool
	full   bool
	flood  *flood
	others int // people at other addresses who sign in meanwhile, once each
}

const steadyRate = 500

func (s *stage) scenes() []scene {
	return []scene{
		{name: calm, checks: true},
		{name: flooded, checks: true, flood: &flood{clients: 64}},
		{name: calmAgain, checks: true},
		{name: unchecked, flood: &flood{clients: 64}},
		{name: crowd, checks: true, flood: &flood{clients: 1000}},
		{name: mob, checks: true, flood: &flood{clients: 64, addresses: 16, manner: rude}, others: 100},
		{name: full, full: true},
		{name: fullFlood, full: true, flood: &flood{clients: 16}},
	}
}

// storm floods the service with logins beside checks.
func storm(ctx context.Context, s *stage, r *report) error {
	return s.scope(func(s *stage) error {
		requests, _, err := s.realSessions(ctx)
		if err != nil {
			return err
		}
		live := requests[:0]
		for _, q := range requests {
			if !q.revoked {
				live = append(live, q)
			}
		}
		users, err := s.people(ctx, 2000)
		if err != nil {
			return err
		}
		st := &storming{}
		r.Storm = st
		s.say("measuring what bcrypt allows on all cores")
		if st.Limit, err = bcryptLimit(ctx, runtime.NumCPU(), 5*time.Second); err != nil {
			return err
		}
		service, err := s.startService(ctx, s.space.url, s.space.prefix, "SESSIOND_TRUSTED_PROXIES=127.0.0.0/8")
		if err != nil {
			return err
		}
		s.later(service.stop)
		// One thread is enough to ask, and takes less from those who answer.
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		for round := range s.Rounds {
			var found stormRound
			for _, sc := range s.scenes() {
				s.say("storm, round %d of %d: %s", round+1, s.Rounds, sc.name)
				w, err := s.play(ctx, sc, []*process{service}, live, users)
				if err != nil {
					return err
				}
				s.say("  checks p99 %.1f ms, %s", w.P99, w.Logins)
				found = append(found, w)
			}
			st.Floods = append(st.Floods, found)
		}
		return nil
	})
}

// play plays one scene.
func (s *stage) play(ctx context.Context, sc scene, services []*process, live []request, users []identity.User) (w weather, err error) {
	w.Name = sc.name
	var addrs []string
	for _, p := range services {
		addrs = append(addrs, p.addr)
	}
	scene, cancel := context.WithTimeout(ctx, s.Round)
	defer cancel()
	var g errgroup.Group
	if sc.checks {
		g.Go(func() error {
			waits, err := (&steady{addrs, live, steadyRate}).run(scene)
			w.P50, w.P99 = millis(percentile(waits, 50)), millis(percentile(waits, 99))
			return err
		})
	}
	if sc.full {
		g.Go(func() error {
			cs, err := dialAll(ctx, addrs[0], principal)
			if err != nil {
				return err
			}
			defer cs.close()
			defer cs.bound(ctx, s.Round)()
			got, err := drive(ctx, principal, s.Round, &supply{requests: live}, overHTTP(cs, true))
			w.P50, w.P99, w.Rate = millis(got.p50), millis(got.p99), float64(got.checks)/got.took.Seconds()
			return err
		})
	}
	if sc.flood != nil {
		f := *sc.flood
		f.addrs, f.users = addrs, users[:len(users)-100]
		g.Go(func() (err error) {
			w.Logins, err = f.run(scene)
			return err
		})
	}
	if sc.others > 0 {
		o := flood{addrs: addrs, users: users[len(users)-100:], clients: 1, first: 1 << 20, once: true}
		g.Go(func() error {
			w.Others = &logins{}
			for i := range sc.others {
				one := o
				one.users, one.first = o.users[i:i+1], o.first+i
				l, err := one.run(scene)
				if err != nil {
					return err
				}
				w.Others.add(l)
			}
			return nil
		})
	}
	g.Go(func() error {
		for scene.Err() == nil {
			pause(scene, 100*time.Millisecond)
			if _, err := get(ctx, "http://"+addrs[0]+"/livez"); err != nil {
				w.Dark++
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return w, fmt.Errorf("%s: %w", sc.name, err)
	}
	for _, p := range services {
		resident, _, err := processMemory(p.cmd.Process.Pid)
		if err != nil {
			return w, err
		}
		w.Memory = max(w.Memory, float64(resident)/1e6)
	}
	return w, nil
}

func (l *logins) String() string {
	if l == nil {
		return "no logins"
	}
	return fmt.Sprintf("%d signed in (%.1f/s), %d shed, %d limited, longest %.0f ms, longest shed %.0f ms", l.SignedIn, l.Rate, l.Shed, l.Limited, l.Longest, l.LongestShed)
}

func (r *report) printStorm(out io.Writer) {
	if r.Storm == nil {
		return
	}
	fmt.Fprintf(out, "\nA flood of logins beside checks; bcrypt allows %.1f logins a second.\n", r.Storm.Limit)
	tab := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer tab.Flush() //nolint:errcheck // into memory
	fmt.Fprint(tab, "\tcheck p50 ms\tp99 ms\t× calm\tchecks/s\tlogins/s\tof the limit\tshed\tlongest ms\tshed ms\tothers\tMB\t\n")
	for round, found := range r.Storm.Floods {
		for _, w := range found {
			fmt.Fprintf(tab, "%d %s\t%.1f\t%.1f\t%.2f\t%.0f\t", round+1, w.Name, w.P50, w.P99, w.P99/found[0].P99, w.Rate)
			if l := w.Logins; l != nil {
				fmt.Fprintf(tab, "%.1f\t%.2f\t%d\t%.0f\t%.0f\t", l.Rate, l.Rate/r.Storm.Limit, l.Shed+l.Limited, l.Longest, l.LongestShed)
			} else {
				fmt.Fprint(tab, strings.Repeat("\t", 5))
			}
			if o := w.Others; o != nil {
				fmt.Fprintf(tab, "%d (%.0f ms)", o.SignedIn, o.Longest)
			}
			fmt.Fprintf(tab, "\t%.0f\t\n", w.Memory)
		}
	}
}

// bcryptLimit is how many hashes a second so many cores make when they do nothing else.
func bcryptLimit(ctx context.Context, cores int, d time.Duration) (float64, error) {
	hasher, err := identity.NewHasher(loginCost, nil)
	if err != nil {
		return 0, err
	}
	w, err := drive(ctx, cores, d, &supply{requests: make([]request, 1)}, func(ctx context.Context, _ int, _ *request) error {
		return hasher.VerifyNobody(ctx, loginPassword)
	})
	return float64(w.checks) / w.took.Seconds(), err
}
