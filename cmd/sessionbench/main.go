// Command sessionbench measures what it costs sessiond to check an access token. The same run
// measures an empty HTTP handler and a simpler design for comparison. See README.md.
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

const description = `Measures what it costs sessiond to check an access token.

compare: checks per second of an empty HTTP handler, of a plain design, of /v1/verify and of a verifier inside this program. memory: the
memory of a million live sessions in sessiond and Redis. growth: checks per second with few and with many sessions. vanish: clients
that disconnect before their answer, and one late reply of Redis. storm: a flood of logins beside checks. all: everything but storm.
size: how large a deployment must be; it has flags of its own, which sessionbench size --help explains.

No other program may use the PostgreSQL and Redis servers at the same time. sessionbench creates its own databases in PostgreSQL, uses
empty databases of Redis, and removes everything that it wrote. The exit status is 1 if a server gave a wrong answer.`

type config struct {
	Parts          []string      `arg:"" optional:"" default:"compare" enum:"compare,memory,growth,vanish,storm,all" help:"Measurements to run."`
	DatabaseURL    string        `env:"SESSIOND_TEST_POSTGRES_URL" placeholder:"URL" help:"PostgreSQL server. Its user must be allowed to create databases." json:"-"`
	RedisURL       string        `env:"SESSIOND_TEST_REDIS_URL" placeholder:"URL" help:"Redis server, not a Redis Cluster." json:"-"`
	Build          []string      `placeholder:"NAME=PATH" sep:"none" help:"sessiond program to measure instead of a new build of this repository. NAME labels it in the report. If the flag is repeated, compare measures each program, and the first one twice to show the noise. Thresholds and all other measurements use the last program."`
	Rounds         int           `placeholder:"N" help:"Number of rounds in which each measurement is repeated (default: 7; storm: 3)."`
	Round          time.Duration `placeholder:"DURATION" help:"How long each program or kind of load is measured per round (default: 1s; storm: 10s)."`
	Sessions       int           `default:"1000" help:"Number of sessions whose tokens are checked."`
	Connections    []int         `default:"1,64,256" help:"compare: numbers of concurrent HTTP connections to measure with."`
	Algorithms     []string      `default:"EdDSA,ES256,HS256" enum:"EdDSA,ES256,HS256" help:"compare: signature algorithms of the tokens. The first is measured with each number of connections, the others only with the middle number of connections."`
	Tokens         []string      `default:"warm,new" enum:"warm,new" help:"compare: warm measures tokens that the server has checked before, new measures tokens that it checks for the first time."`
	MemorySessions int           `default:"1000000" help:"memory: number of live sessions."`
	GrowthSessions []int         `default:"1000,100000,1000000" help:"growth: numbers of sessions in Redis to measure with. The others are compared to the first."`
	GrowthUser     int           `default:"10000" help:"growth: also measure with this number of sessions that all belong to one user."`
	Duration       time.Duration `default:"1m" help:"vanish: how long to measure with HTTP, and then the same time again without HTTP."`
	Crowd          int           `default:"1000" help:"storm: number of clients in the large flood, in which each client logs in again and again and obeys Retry-After."`
	Stampede       int           `default:"10000" help:"storm: number of clients in the flood in which each client sends one login, all at the same moment."`
	Deployments    []string      `default:"one,three,limited" enum:"one,three,limited" help:"storm: deployments of sessiond to flood with logins. one: one replica, three: three replicas, limited: one replica in a control group that may use one CPU core."`
	JSON           string        `name:"json" placeholder:"FILE" help:"Write the figures of all rounds to this file." json:"-"`
	SVG            string        `name:"svg" placeholder:"DIRECTORY" help:"Write plots to this directory: compare.svg, growth.svg, storm.svg." json:"-"`
	Check          bool          `help:"Exit with status 1 if a threshold is missed." json:"-"`
}

// Validate checks the flags. kong calls it after parsing them.
func (c *config) Validate() error {
	if c.DatabaseURL == "" || c.RedisURL == "" {
		return errors.New("--database-url and --redis-url must be set; ./deploy/servers.sh starts both servers and sets them")
	}
	numbers := slices.Concat(c.Connections, c.GrowthSessions, []int{c.Sessions, c.MemorySessions, c.GrowthUser, c.Crowd, c.Stampede, int(c.Duration)})
	if slices.Min(numbers) < 1 || c.Rounds < 0 || c.Round < 0 {
		return errors.New("numbers and durations must be more than 0")
	}
	if c.Round > 15*time.Second {
		return errors.New("--round must be at most 15s; during longer rounds of other programs, sessiond would close the connections that stay idle")
	}
	return nil
}

// rounds returns the values of --rounds and --round. The parameters are their defaults.
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
	if len(args) > 0 && args[0] == "size" {
		return b.size(ctx, args[1:], stdout, stderr)
	}
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
		return fmt.Errorf("%d wrong answers from measured servers, the first: %s", b.report.Wrong, b.report.Complaint)
	}
	if b.Check && b.report.Missed > 0 {
		return fmt.Errorf("%d thresholds were missed; the report names them", b.report.Missed)
	}
	return nil
}

// publish prints the report and writes the files of --json and --svg.
func (b *bench) publish(stdout io.Writer) {
	b.report.Print(stdout)
	if b.JSON != "" {
		must.Do(os.WriteFile(b.JSON, must.Get(json.MarshalIndent(&b.report, "", "  ")), 0o644)) //nolint:gosec // G306: other users may read the report
	}
	if b.SVG != "" {
		for part, svg := range plot.All(&b.report) {
			must.Do(os.WriteFile(filepath.Join(b.SVG, string(part)+".svg"), svg, 0o644)) //nolint:gosec // G306: other users may read the plots
		}
	}
}
