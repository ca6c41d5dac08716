package redisstore

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Report is what [Store.Inspect] learned of Redis.
type Report struct {
	Cluster bool
	Nodes   []Node // one for a single Redis and for Sentinel's master, else the Cluster's masters
}

// Node is one server. The settings are in Redis's own words. What the user has
// no permission to ask, or the server does not know, is empty or nil.
type Node struct {
	Addr                  string
	Version               string         // "7.0.15"; Valkey tells which Redis it is like
	Role                  string         // "master" or "slave"
	Lineage               bool           // it tells its lineage, without which the store believes nothing that it knows
	Persistence           string         // "none", "rdb", "aof" or "rdb+aof"
	MaxMemory             string         // bytes; "0": no limit
	MaxMemoryPolicy       string         // "noeviction"
	StopWritesOnSaveError string         // "yes" or "no"
	MinReplicasToWrite    string         // "1"
	MinReplicasMaxLag     string         // seconds
	Replicas              string         // how many are connected
	Skew                  *time.Duration // how far its clock is ahead of ours
}

// oldest is the version that brought PEXPIRETIME, which raising a generation asks.
const oldest = 7

// TooOld tells whether the store cannot work on this version. It is false when
// the version is not known.
func (n Node) TooOld() bool {
	major, _, _ := strings.Cut(n.Version, ".")
	number, err := strconv.Atoi(major)
	return err == nil && number < oldest
}

// Inspect asks each server for what decides how well the store can keep its
// promises. It fails with [session.ErrUnavailable] when one does not answer.
// The deadline is the caller's.
func (s *Store) Inspect(ctx context.Context) (Report, error) {
	var report Report
	var err error
	switch client := s.client.(type) {
	case *redis.ClusterClient:
		report.Cluster = true
		var mu sync.Mutex
		err = client.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			n, err := inspect(ctx, node, node.Options().Addr)
			mu.Lock()
			defer mu.Unlock()
			report.Nodes = append(report.Nodes, n)
			return err
		})
	case *redis.Client:
		n, e := inspect(ctx, client, client.Options().Addr)
		report.Nodes, err = []Node{n}, e
	default:
		n, e := inspect(ctx, client, "")
		report.Nodes, err = []Node{n}, e
	}
	if err != nil {
		return Report{}, unavailable(err, "inspect")
	}
	return report, nil
}

func inspect(ctx context.Context, client redis.UniversalClient, addr string) (Node, error) {
	if err := client.Ping(ctx).Err(); err != nil {
		return Node{}, err
	}
	// From here on an error means that this user may not ask, or this server not answer, this.
	info := infoFields(client.Info(ctx).Val())
	config := func(name string) string { return client.ConfigGet(ctx, name).Val()[name] }
	n := Node{
		Addr:                  addr,
		Version:               info["redis_version"],
		Role:                  info["role"],
		MaxMemory:             info["maxmemory"],
		MaxMemoryPolicy:       info["maxmemory_policy"],
		StopWritesOnSaveError: config("stop-writes-on-bgsave-error"),
		MinReplicasToWrite:    config("min-replicas-to-write"),
		MinReplicasMaxLag:     config("min-replicas-max-lag"),
		Replicas:              info["connected_slaves"],
	}
	_, err := parseInfo(client.Info(ctx, "replication").Val())
	n.Lineage = err == nil
	if save, err := client.ConfigGet(ctx, "save").Result(); err == nil {
		n.Persistence = persistence(save["save"] != "", info["aof_enabled"] == "1")
	}
	asked := time.Now()
	if theirs, err := client.Time(ctx).Result(); err == nil {
		skew := theirs.Sub(asked.Add(time.Since(asked) / 2))
		n.Skew = &skew
	}
	return n, nil
}

func persistence(rdb, aof bool) string {
	switch {
	case rdb && aof:
		return "rdb+aof"
	case rdb:
		return "rdb"
	case aof:
		return "aof"
	default:
		return "none"
	}
}

// infoFields reads the lines "field:value" of INFO.
func infoFields(info string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}
