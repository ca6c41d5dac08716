// Command sessionbench measures what a check costs, against a handler that does
// nothing and against the plain design, in one go on one machine.
// `sessionbench help` says what else it measures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "sessionbench:", err)
		os.Exit(1)
	}
}

const usage = `sessionbench measures what a check costs, on one machine and in one go.

  sessionbench [compare]   the rate of checks: an empty handler, the plain design,
                           /v1/verify and the verifier without HTTP, taking turns
  sessionbench memory      what a million live sessions take, here and in Redis
  sessionbench growth      the rate with few and with many sessions
  sessionbench vanish      clients that leave without their answer, and a Redis
                           that holds one back
  sessionbench storm       a flood of logins beside checks
  sessionbench all         all of these but storm

It needs a PostgreSQL and a Redis that nobody else uses meanwhile. From the
root of the repository, with throwaway ones:

  ./deploy/servers.sh go run ./cmd/sessionbench

It makes a database of its own and removes it, and removes its keys from Redis;
memory and growth take databases of that Redis that are empty. It ends with status 1
when any answer was wrong and, with --check, when a threshold is missed.

`

// config is what the flags say.
type config struct {
	Rounds      int           `json:"rounds"`
	Round       time.Duration `json:"round_ns"`
	Connections numbers       `json:"connections"`
	Algorithms  words         `json:"algorithms"`
	Tokens      words         `json:"tokens"`
	Sessions    int           `json:"sessions"`
	Memory      int           `json:"memory_sessions"`
	Growth      numbers       `json:"growth_sessions"`
	Crowd       int           `json:"growth_sessions_of_one_user"`
	Duration    time.Duration `json:"vanish_duration_ns"`
	Crowded     int           `json:"storm_crowd"`
	Stampede    int           `json:"storm_stampede"`
	Deployments words         `json:"storm_deployments"`

	databaseURL, redisURL    string
	sessiond, redisBenchmark string
	jsonFile, svgFile        string
	check                    bool
}

func parse(verb string, args []string, env func(string) (string, bool), stderr io.Writer) (config, error) {
	c := config{
		Connections: numbers{1, 64, 256}, Algorithms: words{"EdDSA", "ES256", "HS256"}, Tokens: words{warm, fresh},
		Growth: numbers{1_000, 100_000, 1_000_000},
	}
	postgres, _ := env("SESSIOND_TEST_POSTGRES_URL")
	redis, _ := env("SESSIOND_TEST_REDIS_URL")
	f := flag.NewFlagSet("sessionbench "+verb, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&c.databaseURL, "database-url", postgres, "a PostgreSQL `URL` that may create databases (default: $SESSIOND_TEST_POSTGRES_URL)")
	f.StringVar(&c.redisURL, "redis-url", redis, "a single Redis, `URL` (default: $SESSIOND_TEST_REDIS_URL)")
	f.StringVar(&c.sessiond, "sessiond", "", "`path` of the program to measure (default: built from this module)")
	f.StringVar(&c.redisBenchmark, "redis-benchmark", "redis-benchmark", "`path` of Redis's own benchmark; where there is none its row is missing")
	f.StringVar(&c.jsonFile, "json", "", "write all figures of all rounds to this `file`")
	f.StringVar(&c.svgFile, "svg", "", "plot to this `file`; growth, run by all, to one named …-growth.svg beside it")
	f.BoolVar(&c.check, "check", false, "end with status 1 also when a threshold is missed")
	rounds, round := 7, time.Second
	if verb == "storm" {
		rounds, round = 3, 10*time.Second // a login takes seconds there
		f.IntVar(&c.Crowded, "crowd", 1000, "clients that come back when told to")
		c.Deployments = words{"one", "three", "limited"}
		f.Var(&c.Deployments, "deployments", "one replica, three, and one in a control group that may use one core: a `list`")
		f.IntVar(&c.Stampede, "stampede", 10_000, "clients that come at the same moment")
	}
	if verb != "memory" && verb != "vanish" {
		f.IntVar(&c.Rounds, "rounds", rounds, "how often each takes its turn")
		f.DurationVar(&c.Round, "round", round, "how long a turn is")
	}
	if verb != "memory" {
		f.IntVar(&c.Sessions, "sessions", 1000, "distinct sessions among which checks go round")
	}
	if verb == "compare" || verb == "all" {
		f.Var(&c.Connections, "connections", "HTTP connections, a `list`")
		f.Var(&c.Algorithms, "algorithms", "signatures, a `list`; the first is measured at all connections, the others at 64 alone")
		f.Var(&c.Tokens, "tokens", "a `list` of warm, tokens seen before, and new, every token its first time")
	}
	if verb == "memory" || verb == "all" {
		f.IntVar(&c.Memory, "memory-sessions", 1_000_000, "live sessions, each checked once")
	}
	if verb == "growth" || verb == "all" {
		f.Var(&c.Growth, "growth-sessions", "how many sessions Redis holds, a `list`; the first is what the others are compared to")
		f.IntVar(&c.Crowd, "growth-user", 10_000, "sessions of the one user who has many")
	}
	if verb == "vanish" || verb == "all" {
		f.DurationVar(&c.Duration, "duration", time.Minute, "how long clients vanish, over HTTP and again without")
	}
	if err := f.Parse(args); err != nil {
		return c, err
	}
	return c, c.validate(f)
}

const longestRound = 15 * time.Second

func (c *config) validate(f *flag.FlagSet) error {
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if c.databaseURL == "" || c.redisURL == "" {
		return errors.New("--database-url and --redis-url are needed; ./deploy/servers.sh go run ./cmd/sessionbench starts throwaway servers and names them")
	}
	for _, t := range c.Tokens {
		if t != warm && t != fresh {
			return fmt.Errorf("--tokens: %q is neither warm nor new", t)
		}
	}
	for name, n := range map[string]int{
		"rounds": c.Rounds, "sessions": c.Sessions, "memory-sessions": c.Memory, "growth-user": c.Crowd,
		"crowd": c.Crowded, "stampede": c.Stampede,
	} {
		if f.Lookup(name) != nil && n < 1 {
			return fmt.Errorf("--%s: less than 1", name)
		}
	}
	if c.Round > longestRound {
		return fmt.Errorf("--round: more than %v; connections that wait for their turn would be closed for idleness", longestRound)
	}
	for name, d := range map[string]time.Duration{"round": c.Round, "duration": c.Duration} {
		if f.Lookup(name) != nil && d <= 0 {
			return fmt.Errorf("--%s: not above 0", name)
		}
	}
	return nil
}

// run is the whole program.
func run(ctx context.Context, args []string, env func(string) (string, bool), stdout, stderr io.Writer) error {
	verb := "compare"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	parts, known := map[string][]part{
		"compare": {compare}, "memory": {memory}, "growth": {growth}, "vanish": {vanish}, "storm": {storm},
		"all": {compare, memory, growth, vanish},
	}[verb]
	switch {
	case verb == "help":
		_, err := io.WriteString(stdout, usage)
		return err
	case verb == baselineVerb:
		return runBaseline(ctx, args, env, stdout)
	case !known:
		return fmt.Errorf("unknown verb %q; sessionbench help lists them", verb)
	}
	if len(args) > 0 && (args[0] == "-h" || args[0] == "-help" || args[0] == "--help") {
		fmt.Fprint(stderr, usage)
	}
	c, err := parse(verb, args, env, stderr)
	if err != nil {
		return err
	}
	return measure(ctx, c, parts, stdout, stderr)
}

// part is one of the measurements. It writes what it finds into the report.
type part func(ctx context.Context, s *stage, r *report) error

func measure(ctx context.Context, c config, parts []part, stdout, stderr io.Writer) (err error) {
	s, err := newStage(ctx, c, &progress{out: stderr, began: time.Now()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r := &report{Config: c, Machine: s.describeMachine(ctx)}
	for _, measure := range parts {
		if err := measure(ctx, s, r); ctx.Err() != nil {
			return errors.New("interrupted") // what broke off, and how, is of no interest
		} else if err != nil {
			return err
		}
	}
	r.judge()
	if err := r.publish(c, stdout); err != nil {
		return err
	}
	if r.Wrong > 0 {
		return fmt.Errorf("%d wrong answers, the first: %s", r.Wrong, r.Complaint)
	}
	if missed := r.missed(); c.check && missed > 0 {
		return fmt.Errorf("%d thresholds missed", missed)
	}
	return nil
}

// progress tells a person who waits what is being done.
type progress struct {
	out   io.Writer
	began time.Time
}

func (p *progress) say(format string, args ...any) {
	took := time.Since(p.began)
	fmt.Fprintf(p.out, "%3d:%02d  %s\n", int(took.Minutes()), int(took.Seconds())%60, fmt.Sprintf(format, args...))
}

// words is a comma-separated list.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

func (w *words) Set(text string) error {
	*w = strings.Split(text, ",")
	return nil
}

// numbers is a comma-separated list.
type numbers []int

func (n *numbers) String() string {
	var w words
	for _, number := range *n {
		w = append(w, strconv.Itoa(number))
	}
	return w.String()
}

func (n *numbers) Set(text string) error {
	*n = nil
	for word := range strings.SplitSeq(text, ",") {
		number, err := strconv.Atoi(word)
		if err != nil || number < 1 {
			return fmt.Errorf("%q is not a number above 0", word)
		}
		*n = append(*n, number)
	}
	return nil
}
