package redisstore

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
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
	Version               string         // of Redis, such as "7.0.15"; Valkey reports the one that it is compatible with
	Valkey                string         // version of Valkey, such as "8.1.1"; empty for Redis
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
		Valkey:                infoField(info, "valkey_version"),
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

// Sentinel is what one Sentinel says of the master that it monitors.
type Sentinel struct {
	Addr      string
	Known     int // the number of Sentinels that monitor the master, including this one
	Quorum    int // how many Sentinels must find the master down before one of them starts a failover
	DownAfter time.Duration
	Err       error // why the Sentinel did not answer, or cannot start a failover now; or nil
}

// InspectSentinels asks each Sentinel in redisURL for the settings that a safe failover depends on. It
// returns nothing for a URL without Sentinels. The caller sets the deadline.
func InspectSentinels(ctx context.Context, redisURL string) ([]Sentinel, error) {
	o, err := parseURL(redisURL)
	if err != nil || o.MasterName == "" {
		return nil, err
	}
	logToSlog()
	found := make([]Sentinel, len(o.Addrs))
	var asked sync.WaitGroup
	for i, addr := range o.Addrs {
		asked.Go(func() {
			client := redis.NewSentinelClient(&redis.Options{
				Addr: addr, Username: o.SentinelUsername, Password: o.SentinelPassword, TLSConfig: o.TLSConfig,
				Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, DialTimeout: dialTimeout,
				ReadTimeout: socketTimeout, WriteTimeout: socketTimeout, MaxRetries: -1, DialerRetries: 1,
				MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			})
			defer client.Close() //nolint:errcheck // an error does not matter, because nothing was written
			found[i] = inspectSentinel(ctx, client, addr, o.MasterName)
		})
	}
	asked.Wait()
	return found, nil
}

func inspectSentinel(ctx context.Context, client *redis.SentinelClient, addr, master string) Sentinel {
	said, err := client.Master(ctx, master).Result()
	if err != nil {
		return Sentinel{Addr: addr, Err: unavailable(err, "inspect Sentinel")}
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(said[name]) // 0 never passes for a good value
		return n
	}
	return Sentinel{
		Addr: addr, Known: number("num-other-sentinels") + 1, Quorum: number("quorum"),
		DownAfter: time.Duration(number("down-after-milliseconds")) * time.Millisecond,
		Err:       client.CkQuorum(ctx, master).Err(),
	}
}
