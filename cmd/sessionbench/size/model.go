// Package size computes how large a deployment of sessiond must be, from the number of its users and
// from measured costs. deploy/docs/sizing.md explains the formulas.
package size

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
)

// Cost is the CPU time of a check, in µs. It falls when checks share a round trip to Redis.
type Cost struct {
	Check float64 `json:"check"` // of each check
	Trip  float64 `json:"trip"`  // of each round trip to Redis
}

// At returns the CPU time of a check, in µs, if that many checks share a round trip.
func (c Cost) At(batch float64) float64 { return c.Check + c.Trip/batch }

// Fit returns the Cost that fits two measurements: CPU times of a check, with these batches.
func Fit(cpu1, batch1, cpu2, batch2 float64) Cost {
	trip := (cpu1 - cpu2) / (1/batch1 - 1/batch2)
	return Cost{Check: cpu1 - trip/batch1, Trip: trip}
}

// callersPerBatch is how many checks wait for a replica's batches to one shard, for each check in a
// batch: some are in the batch, some wait for the next one, and others are on their way.
const callersPerBatch = 3

// Batch returns how many checks share a round trip if that many checks of one replica wait for one
// shard at the same time.
func Batch(waiting float64) float64 { return max(1, waiting/callersPerBatch) }

// Costs are what one operation takes. The file costs.json has them with the commands that measured them.
type Costs struct {
	Machine string          `json:"machine"`
	Service map[string]Cost `json:"service_cpu"` // CPU of the service for a check, by the way it is asked: see Ways
	Redis   Cost            `json:"redis_cpu"`

	Login    float64 `json:"login_cpu_ms"` // CPU of the service, ms; nearly all of it is the password hash
	Refresh  float64 `json:"refresh_cpu_ms"`
	Backfill float64 `json:"backfill_cpu_ms"`
	Limit    float64 `json:"limit_redis_cpu_us"` // CPU of Redis to charge one login or refresh to its limits, µs

	RedisSession float64 `json:"redis_session_bytes"` // of a session that was used within the lifetime of its access token, with the keys of its user

	User    float64 `json:"postgres_user_bytes"` // of a row, with its indexes
	Session float64 `json:"postgres_session_bytes"`
	Event   float64 `json:"postgres_event_bytes"`

	PostgresLogin   Write `json:"postgres_login"`
	PostgresRefresh Write `json:"postgres_refresh"`
	PostgresUse     Write `json:"postgres_last_seen"` // one session in a batch of last-seen times
}

// Write is what a change costs Postgres.
type Write struct {
	CPU   float64 `json:"cpu_ms"`
	WAL   float64 `json:"wal_bytes"` // without full page images
	Pages float64 `json:"pages"`     // pages of tables and indexes that become dirty
}

// Ways are the ways to ask for a check, which Costs.Service has.
var Ways = []string{"check port", "main port", "gRPC", inProcess}

const inProcess = "in process" // in a Go service that holds the verifier

//go:embed costs.json
var measured []byte

// Measured returns the costs in costs.json.
func Measured() (Costs, error) { return Parse(measured) }

// Parse reads costs from JSON. It returns an error if one of them is missing or not above 0.
func Parse(data []byte) (c Costs, err error) {
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("costs: %w", err)
	}
	numbers := []float64{c.Redis.Check, c.Redis.Trip, c.Login, c.Refresh, c.Backfill, c.Limit, c.RedisSession, c.User, c.Session, c.Event}
	for _, w := range []Write{c.PostgresLogin, c.PostgresRefresh, c.PostgresUse} {
		numbers = append(numbers, w.CPU, w.WAL, w.Pages)
	}
	for _, way := range Ways {
		numbers = append(numbers, c.Service[way].Check, c.Service[way].Trip)
	}
	for _, n := range numbers {
		if !(n > 0) || math.IsInf(n, 0) {
			return c, fmt.Errorf("costs: a cost is missing or not above 0")
		}
	}
	return c, nil
}

// Load is what the users do, and the parts that the deployment is made of.
type Load struct {
	Users      float64
	Active     float64 // share of the users who have a session in use in the busiest hour, 0 to 1
	Sessions   float64 // sessions in use of such a user
	Checks     float64 // of a session in use, a minute
	Refreshes  float64 // of a session in use, an hour
	Logins     float64 // of a user, a month
	Peak       float64 // logins in the busiest hour, divided by those in an average hour
	Retention  float64 // days for which the history is kept
	Way        string  // one of Ways
	Cores      float64 // of a replica
	ReplicaUse float64 // share of its CPU that a replica may use, 0 to 1
	ShardUse   float64 // share of its core that a Redis shard may use, 0 to 1
	RoundTrip  float64 // ms between a replica and Redis
	Spare      int     // replicas that may fail
	Conns      float64 // DATABASE_MAX_CONNS
	Checkpoint float64 // minutes between two checkpoints of Postgres
}

// Size is how large a deployment must be. Rates are a second, in the busiest hour.
type Size struct {
	Users, Live                     float64
	Checks, Logins, Refreshes, Uses float64

	ServiceCores float64 // CPU that the operations take
	Replicas     int
	PerReplica   float64 // checks a second
	Batch        float64

	RedisCores  float64
	Shards      int
	RedisGB     float64 // of all masters; each of their replicas needs as much again
	LimitsShare float64 // share of a core that the one shard takes that holds all rate limits

	PostgresGB    float64
	PostgresCores float64
	Rows          float64 // of the table sessions
	Partitions    int     // months, or 0 if the table needs none
	Commits       float64 // a second; group commit writes several at once
	IOPS          float64 // pages written a second, at most
	WALMB         float64 // a second
	Connections   int     // of all replicas
	Servers       int     // connections of the pooler to Postgres
}

const (
	month          = 30.0            // days
	partitionsFrom = 50e6            // rows, as in deploy/docs/partitions.md
	usesPerReplica = 2000            // last-seen times that a replica writes a second, at most (session/issuer/lastseen.go)
	usesPerCommit  = 500             // last-seen times in one statement, at most (session/issuer/lastseen.go)
	page           = 8192            // bytes
	memoryHeadroom = 1.5             // of Redis: fragmentation, buffers, and copies of pages while it saves
	mega, giga     = 1e6, 1000 * 1e6 // bytes
)

// Predict returns the size of a deployment that carries the load.
func Predict(l Load, c Costs) (s Size) {
	s.Users, s.Live = l.Users, l.Users*l.Active*l.Sessions
	s.Checks, s.Refreshes = s.Live*l.Checks/60, s.Live*l.Refreshes/3600
	s.Logins = l.Users * l.Logins / month / 86400 * l.Peak
	if l.Way != inProcess { // verifiers in other services record no uses
		s.Uses = s.Live * min(l.Checks, 1) / 60
	}

	// More shards make batches smaller, and smaller batches make checks dearer, for Redis and for the
	// replicas. Begin with one shard and add shards until the load fits.
	for s.Shards = 1; ; s.Shards++ {
		s.size(l, c)
		if s.RedisCores <= float64(s.Shards)*l.ShardUse {
			break
		}
		// No batch is smaller than 1, so this many shards are needed at least for the present cost.
		s.Shards = max(s.Shards, int(s.RedisCores/l.ShardUse)-1)
	}
	s.RedisGB = s.Live * c.RedisSession * memoryHeadroom / giga
	s.LimitsShare = (s.Logins + s.Refreshes) * c.Limit / mega

	s.Uses = min(s.Uses, usesPerReplica*float64(s.Replicas))
	s.Rows = l.Users * l.Logins / month * l.Retention
	s.PostgresGB = (l.Users*c.User + s.Rows*(c.Session+c.Event)) / giga
	if s.Rows > partitionsFrom {
		s.Partitions = int(math.Ceil(l.Retention/month)) + 1
	}
	s.Commits = s.Logins + s.Refreshes + s.Uses/usesPerCommit
	s.IOPS = s.Commits // each waits for the WAL
	interval := 60 * l.Checkpoint
	for _, part := range []struct {
		rate, rows float64 // rows: how many of them can change
		Write
	}{{s.Logins, math.Inf(1), c.PostgresLogin}, {s.Refreshes, s.Live, c.PostgresRefresh}, {s.Uses, s.Live, c.PostgresUse}} {
		// Between two checkpoints, a page that changes again is not written again. Its first change is a whole page in the WAL.
		pages := min(part.rate, part.rows/interval) * part.Pages
		s.PostgresCores += part.rate * part.CPU / 1000
		s.IOPS += pages
		s.WALMB += (part.rate*part.WAL + pages*page) / mega
	}
	// As many connections work at the same time as Postgres has cores at work, and as many again wait for the disk.
	s.Connections = int(l.Conns+2) * s.Replicas
	s.Servers = min(s.Connections, max(10, int(math.Ceil(4*s.PostgresCores))))
	return s
}

// size sets the number of replicas and the CPU of Redis, for the present number of shards.
func (s *Size) size(l Load, c Costs) {
	other := s.Logins*c.Login/1000 + s.Refreshes*c.Refresh/1000 + (s.Logins+s.Refreshes)*c.Backfill/1000
	s.Batch = 1
	for range 20 { // a larger batch needs fewer replicas, and fewer replicas have larger batches
		s.ServiceCores = s.Checks*c.Service[l.Way].At(s.Batch)/mega + other
		s.Replicas = max(1, int(math.Ceil(s.ServiceCores/(l.Cores*l.ReplicaUse)))) + l.Spare
		s.PerReplica = s.Checks / float64(s.Replicas)
		waiting := s.PerReplica / float64(s.Shards) * l.RoundTrip / 1000 // Little's law
		s.Batch = (s.Batch + Batch(waiting)) / 2
	}
	s.RedisCores = (s.Checks*c.Redis.At(s.Batch) + (s.Logins+s.Refreshes)*(c.Limit+c.Redis.At(1))) / mega
}
