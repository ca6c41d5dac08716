package redisstore

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Report is the result of [Store.Inspect].
type Report struct {
	Cluster bool
	Nodes   []Node // the single Redis, Sentinel's master, or all masters of the Cluster
}

// Node describes one server. Settings are in Redis's own words. A field is empty or nil if the user
// may not read it or the server does not know it.
type Node struct {
	Addr                  string
	Version               string         // "7.0.15"; Valkey names the Redis version that it is compatible with
	Role                  string         // "master" or "slave"
	Named                 bool           // the server names its master_replid; without it, every check asks the ledger
	Persistence           string         // "none", "rdb", "aof" or "rdb+aof"
	MaxMemoryPolicy       string         // "noeviction"
	StopWritesOnSaveError string         // "yes" or "no"
	MinReplicasToWrite    string         // "1"
	MinReplicasMaxLag     string         // seconds
	Replicas              string         // number of connected replicas
	Skew                  *time.Duration // how far its clock is ahead of this machine's
}

// oldestVersion is the first one with PEXPIRETIME, which raising a generation needs.
const oldestVersion = 7

// TooOld reports whether the store cannot work with this version. It is false for
// an unknown version.
func (n Node) TooOld() bool {
	major, _, _ := strings.Cut(n.Version, ".")
	number, err := strconv.Atoi(major)
	return err == nil && number < oldestVersion
}

// Inspect asks each server for the settings that the store's promises depend on. It returns
// [session.ErrUnavailable] if a server does not answer. The caller sets the deadline.
func (s *Store) Inspect(ctx context.Context) (Report, error) {
	var report Report
	var err error
	if s.cluster != nil {
		report.Cluster = true
		var mu sync.Mutex
		err = s.cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			n, err := inspect(ctx, node, node.Options().Addr)
			mu.Lock()
			defer mu.Unlock()
			report.Nodes = append(report.Nodes, n)
			return err
		})
	} else {
		var addr string
		if single, ok := s.client.(*redis.Client); ok {
			addr = single.Options().Addr
		}
		report.Nodes = make([]Node, 1)
		report.Nodes[0], err = inspect(ctx, s.client, addr)
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
	// From here on, an error means that the user may not ask this question or that the server does
	// not support it.
	info := client.Info(ctx).Val()
	config := func(name string) string { return client.ConfigGet(ctx, name).Val()[name] }
	n := Node{
		Addr:                  addr,
		Version:               infoField(info, "redis_version"),
		Role:                  infoField(info, "role"),
		MaxMemoryPolicy:       infoField(info, "maxmemory_policy"),
		StopWritesOnSaveError: config("stop-writes-on-bgsave-error"),
		MinReplicasToWrite:    config("min-replicas-to-write"),
		MinReplicasMaxLag:     config("min-replicas-max-lag"),
		Replicas:              infoField(info, "connected_slaves"),
	}
	n.Named = infoField(client.Info(ctx, "replication").Val(), "master_replid") != ""
	if save, err := client.ConfigGet(ctx, "save").Result(); err == nil {
		var kinds []string
		if save["save"] != "" {
			kinds = append(kinds, "rdb")
		}
		if infoField(info, "aof_enabled") == "1" {
			kinds = append(kinds, "aof")
		}
		n.Persistence = cmp.Or(strings.Join(kinds, "+"), "none")
	}
	asked := time.Now()
	if theirs, err := client.Time(ctx).Result(); err == nil {
		skew := theirs.Sub(asked.Add(time.Since(asked) / 2))
		n.Skew = &skew
	}
	return n, nil
}
