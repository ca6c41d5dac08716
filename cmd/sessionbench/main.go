// Command sessionbench measures what a check costs, beside an empty handler and the plain design, in
// one run on one machine. README.md says how to run it and why it uses which library.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/plot"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/stage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sessionbench:", err)
		os.Exit(1)
	}
}

const description = `Measures what a check costs, on one machine and in one run.

compare: the rates of an empty handler, the plain design, /v1/verify and the verifier in process, which take turns. memory: what a
million live sessions take in sessiond and in Redis. growth: the rate of checks with few and with many sessions. vanish: clients
that leave before their answer, and a Redis that holds one reply back. storm: a flood of logins beside checks. all: all but storm.

It needs a PostgreSQL and a Redis that nobody else uses at the same time. It makes databases of its own, takes databases of Redis
that are empty, and removes what it has written. It ends with status 1 if an answer was wrong.`

// config is the command line.
type config struct {
	Parts          []string      `arg:"" optional:"" default:"compare" enum:"compare,memory,growth,vanish,storm,all" help:"What to measure."`
	DatabaseURL    string        `env:"SESSIOND_TEST_POSTGRES_URL" placeholder:"URL" help:"PostgreSQL in which databases may be made." json:"-"`
	RedisURL       string        `env:"SESSIOND_TEST_REDIS_URL" placeholder:"URL" help:"A single Redis." json:"-"`
	Build          []string      `placeholder:"NAME=PATH" sep:"none" help:"A sessiond to measure in place of this repository's. With several, compare gives each a row, and the first a second one that shows the noise. The last is held to the thresholds and used by the other parts."`
	Rounds         int           `placeholder:"N" help:"Number of rounds (default: 7; storm: 3)."`
	Round          time.Duration `placeholder:"DURATION" help:"Length of a round (default: 1s; storm: 10s)."`
	Sessions       int           `default:"1000" help:"Sessions that are checked in turn."`
	Connections    []int         `default:"1,64,256" help:"compare: numbers of HTTP connections."`
	Algorithms     []string      `default:"EdDSA,ES256,HS256" enum:"EdDSA,ES256,HS256" help:"compare: signatures. The first is measured with all numbers of connections, the others with the middle one."`
	Tokens         []string      `default:"warm,new" enum:"warm,new" help:"compare: warm, tokens seen before, or new, each token its first time."`
	MemorySessions int           `default:"1000000" help:"memory: live sessions."`
	GrowthSessions []int         `default:"1000,100000,1000000" help:"growth: numbers of sessions in Redis. The others are compared to the first."`
	GrowthUser     int           `default:"10000" help:"growth: sessions of the user who has many."`
	Duration       time.Duration `default:"1m" help:"vanish: how long clients leave, over HTTP and again in process."`
	Crowd          int           `default:"1000" help:"storm: clients that wait as told."`
	Stampede       int           `default:"10000" help:"storm: clients that come at the same moment."`
	Deployments    []string      `default:"one,three,limited" enum:"one,three,limited" help:"storm: one replica, three, or one in a control group that may use one core."`
	JSON           string        `name:"json" placeholder:"FILE" help:"Write the figures of all rounds." json:"-"`
	SVG            string        `name:"svg" placeholder:"DIRECTORY" help:"Write a plot of each part: compare.svg, growth.svg, storm.svg." json:"-"`
	Check          bool          `help:"End with status 1 if a threshold is missed." json:"-"`
}

// Validate is called by kong.
func (c *config) Validate() error {
	if c.DatabaseURL == "" || c.RedisURL == "" {
		return errors.New("--database-url, --redis-url: want URLs; ./deploy/servers.sh starts servers and passes theirs")
	}
	numbers := slices.Concat(c.Connections, c.GrowthSessions, []int{c.Sessions, c.MemorySessions, c.GrowthUser, c.Crowd, c.Stampede, int(c.Duration)})
	if slices.Min(numbers) < 1 || c.Rounds < 0 || c.Round < 0 {
		return errors.New("numbers and durations: want more than 0")
	}
	if c.Round > 15*time.Second {
		return errors.New("--round: want 15s at most, because sessiond closes connections that wait longer for their turn")
	}
	return nil
}

// rounds returns the number of rounds and their length, or the default of a part.
func (c *config) rounds(number int, length time.Duration) (int, time.Duration) {
	return cmp.Or(c.Rounds, number), cmp.Or(c.Round, length)
}

type bench struct {
	config
	*stage.Stage
	report report.Report
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	if os.Getenv(stage.EnvBaseline) != "" {
		return stage.ServeBaseline(ctx)
	}
	began := time.Now()
	b := &bench{Stage: &stage.Stage{Say: func(format string, args ...any) {
		took := int(time.Since(began).Seconds())
		fmt.Fprintf(stderr, "%3d:%02d  %s\n", took/60, took%60, fmt.Sprintf(format, args...))
	}}}
	defer func() {
		if err = errors.Join(err, b.Close()); ctx.Err() != nil {
			err = errors.New("interrupted")
		}
	}()
	defer must.Catch(&err)
	must.Get(must.Get(kong.New(&b.config, kong.Name("sessionbench"), kong.Description(description), kong.Writers(stdout, stderr))).Parse(args))
	b.Open(ctx, b.DatabaseURL, b.RedisURL, b.Build)
	b.report.Config, b.report.Machine = b.config, probe.Machine(ctx, b.Redis, b.Postgres)
	for i, part := range []string{"compare", "memory", "growth", "vanish", "storm"} {
		measure := []func(context.Context){b.compare, b.memory, b.growth, b.vanish, b.storm}[i]
		if slices.Contains(b.Parts, part) || slices.Contains(b.Parts, "all") && part != "storm" {
			b.Scope(func() { measure(ctx) })
		}
	}
	b.report.Judge()
	b.publish(stdout)
	if b.report.Wrong > 0 {
		return fmt.Errorf("%d wrong answers, the first: %s", b.report.Wrong, b.report.Complaint)
	}
	if b.Check && b.report.Missed > 0 {
		return fmt.Errorf("%d thresholds missed", b.report.Missed)
	}
	return nil
}

// publish prints the report and writes the files that were asked for.
func (b *bench) publish(stdout io.Writer) {
	b.report.Print(stdout)
	if b.JSON != "" {
		must.Do(os.WriteFile(b.JSON, must.Get(json.MarshalIndent(&b.report, "", "  ")), 0o644)) //nolint:gosec // G306: for everybody to read
	}
	if b.SVG != "" {
		for part, svg := range plot.All(&b.report) {
			must.Do(os.WriteFile(filepath.Join(b.SVG, string(part)+".svg"), svg, 0o644)) //nolint:gosec // G306: as above
		}
	}
}
