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
	Nodes   []Node // the single Redis, the master behind Sentinel, or all masters of the Cluster
}

// Node describes one Redis server. Settings have the values that Redis reports. A field is empty or
// nil if the ACL user may not read it or the server does not support it.
type Node struct {
	Addr                  string
	Version               string         // such as "7.0.15"; Valkey reports the Redis version that it is compatible with
	Role                  string         // "master" or "slave"
	Named                 bool           // the server names its master_replid; without it, every check asks the ledger
	Persistence           string         // "none", "rdb", "aof" or "rdb+aof"
	MaxMemoryPolicy       string         // such as "noeviction"
	StopWritesOnSaveError string         // "yes" or "no"
	MinReplicasToWrite    string         // a number, such as "1"
	MinReplicasMaxLag     string         // in seconds, such as "10"
	Replicas              string         // number of connected replicas
	Skew                  *time.Duration // how far the server's clock is ahead of this machine's clock
}

// oldestVersion is the first major version of Redis with PEXPIRETIME, which the scripts need.
const oldestVersion = 7

// TooOld reports whether the server's version is too old for the store. It is false for an unknown
// version.
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
	// The server answered PING. An error of a later command means that the ACL user may not run the
	// command or that the server does not support it.
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
