package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/plot"
	"github.com/sessiond/sessiond/cmd/sessionbench/probe"
	"github.com/sessiond/sessiond/cmd/sessionbench/size"
)

const sizeDescription = `Predicts how large a deployment of sessiond must be: replicas, Redis shards and memory, Postgres.

The prediction is a calculation with measured costs and needs no servers. deploy/docs/sizing.md explains it. With --measure, sessionbench
predicts the rates of six small deployments on this machine, measures them, and compares. It runs 1 to 3 replicas and 1 to 3 Redis shards
in control groups, cgroups(7), so it must be root. The exit status is 1 if a prediction is off by more than 15 %.`

type sizeConfig struct {
	Users      []float64 `default:"1e6,1e8,1e9" help:"Numbers of users to predict for."`
	Active     float64   `default:"10" placeholder:"PERCENT" help:"Share of the users who have a session in use in the busiest hour."`
	Devices    float64   `default:"1.2" help:"Sessions in use of each of these users."`
	Checks     float64   `default:"6" help:"Checks of a session in use, each minute."`
	Refreshes  float64   `default:"1" help:"Refreshes of a session in use, each hour. With ACCESS_TOKEN_TTL=1h it is one."`
	Logins     float64   `default:"2" help:"Logins of a user, each month."`
	Peak       float64   `default:"3" help:"Logins in the busiest hour, divided by those in an average hour."`
	Retention  float64   `default:"400" placeholder:"DAYS" help:"HISTORY_RETENTION."`
	Way        string    `default:"check port" enum:"check port,main port,gRPC,in process" help:"How a check is asked for. in process: by a Go service that holds the verifier; replicas then also stand for the processes of that service."`
	Cores      float64   `default:"2" help:"CPU cores of a replica."`
	Margin     float64   `default:"40" placeholder:"PERCENT" help:"Share of the CPU of replicas and Redis shards that is kept free in the busiest hour."`
	Spare      int       `default:"1" help:"Replicas that may be missing, because they restart or failed."`
	RoundTrip  float64   `default:"0.5" placeholder:"MS" help:"Time from a batch of checks to its answer from Redis."`
	Conns      float64   `default:"20" help:"DATABASE_MAX_CONNS."`
	Checkpoint float64   `default:"15" placeholder:"MINUTES" help:"checkpoint_timeout of Postgres."`
	Costs      string    `placeholder:"FILE" help:"JSON file with costs (default: cmd/sessionbench/size/costs.json). --calibrate writes it."`
	SVG        string    `name:"svg" placeholder:"DIRECTORY" help:"Write pictures to this directory: size.svg; with --measure: predicted.svg."`

	Measure     bool          `help:"Predict and measure six small deployments on this machine."`
	Calibrate   bool          `help:"Measure the costs on this machine, and print them as JSON."`
	DatabaseURL string        `env:"SESSIOND_TEST_POSTGRES_URL" placeholder:"URL" help:"--measure, --calibrate: PostgreSQL server."`
	RedisURL    string        `env:"SESSIOND_TEST_REDIS_URL" placeholder:"URL" help:"--measure, --calibrate: Redis server."`
	RedisServer string        `env:"SESSIOND_TEST_REDIS_SERVER" default:"redis-server" placeholder:"PROGRAM" help:"--measure: the program redis-server. sessionbench starts its shards with it."`
	Build       string        `placeholder:"PATH" help:"--measure, --calibrate: sessiond program to measure instead of a new build of this repository."`
	Fillfactor  int           `default:"100" placeholder:"PERCENT" help:"--calibrate: fillfactor of the table sessions."`
	Rounds      int           `placeholder:"N" help:"--measure: number of rounds (default: 22)."`
	Round       time.Duration `placeholder:"DURATION" help:"--measure: how long each deployment is measured per round (default: 500ms)."`
}

// Validate checks the flags. kong calls it after parsing them.
func (c *sizeConfig) Validate() error {
	numbers := append([]float64{c.Active, c.Devices, c.Checks, c.Refreshes, c.Logins, c.Peak, c.Retention, c.Cores, c.RoundTrip, c.Conns, c.Checkpoint, 100 - c.Margin}, c.Users...)
	for _, n := range numbers {
		if !(n > 0) || n > 1e12 {
			return errors.New("numbers must be more than 0, and --margin must be less than 100")
		}
	}
	if c.Active > 100 || c.Margin < 0 || c.Spare < 0 || c.Fillfactor < 10 || c.Fillfactor > 100 || c.Rounds < 0 || c.Round < 0 {
		return errors.New("--active is at most 100; --margin, --spare, --rounds and --round are not negative; --fillfactor is 10 to 100")
	}
	if (c.Measure || c.Calibrate) && (c.DatabaseURL == "" || c.RedisURL == "") {
		return errors.New("--database-url and --redis-url must be set; ./deploy/servers.sh starts both servers and sets them")
	}
	return nil
}

// size runs `sessionbench size`.
func (b *bench) size(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var c sizeConfig
	must.Get(must.Get(kong.New(&c, kong.Name("sessionbench size"), kong.Description(sizeDescription), kong.Writers(stdout, stderr))).Parse(args))
	if !c.Measure && !c.Calibrate {
		return c.predict(stdout)
	}
	b.config.Rounds, b.config.Round = c.Rounds, c.Round
	var builds []string
	if c.Build != "" {
		builds = []string{c.Build}
	}
	b.Open(ctx, c.DatabaseURL, c.RedisURL, builds)
	b.report.Config, b.report.Machine = c, probe.Machine(ctx, b.Redis, b.Postgres)
	var err error
	b.Scope(func() {
		if c.Calibrate {
			c.write(stdout, b.calibrate(ctx, c.RedisServer, c.Fillfactor))
		} else {
			err = b.sizeMeasured(ctx, c.RedisServer, c.SVG, stdout)
		}
	})
	if b.report.Wrong > 0 {
		err = errors.Join(fmt.Errorf("%d wrong answers from measured servers, the first: %s", b.report.Wrong, b.report.Complaint), err)
	}
	return err
}

// write writes costs to the file of --costs, or prints them.
func (c *sizeConfig) write(w io.Writer, costs []byte) {
	if c.Costs == "" {
		must.Get(w.Write(costs))
		return
	}
	must.Do(os.WriteFile(c.Costs, costs, 0o644)) //nolint:gosec // G306: other users may read the costs
}

// predict prints the sizes of deployments.
func (c *sizeConfig) predict(w io.Writer) error {
	costs, err := size.Measured()
	if c.Costs != "" {
		costs, err = size.Parse(must.Get(os.ReadFile(c.Costs)))
	}
	if err != nil {
		return err
	}
	size.Print(w, c.sizes(costs, c.Users...))
	if c.SVG != "" {
		var users []float64
		for n := 5.0; n <= 9; n += 0.25 {
			users = append(users, math.Pow(10, n))
		}
		must.Do(os.WriteFile(filepath.Join(c.SVG, "size.svg"), plot.Sizes(c.sizes(costs, users...)), 0o644)) //nolint:gosec // G306: other users may read the plot
	}
	return nil
}

func (c *sizeConfig) sizes(costs size.Costs, users ...float64) (sizes []size.Size) {
	free := 1 - c.Margin/100
	for _, n := range users {
		sizes = append(sizes, size.Predict(size.Load{
			Users: n, Active: c.Active / 100, Sessions: c.Devices, Checks: c.Checks, Refreshes: c.Refreshes, Logins: c.Logins, Peak: c.Peak, Retention: c.Retention,
			Way: c.Way, Cores: c.Cores, ReplicaUse: free, ShardUse: free, RoundTrip: c.RoundTrip, Spare: c.Spare, Conns: c.Conns, Checkpoint: c.Checkpoint,
		}, costs))
	}
	return sizes
}
