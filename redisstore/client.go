package redisstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// These timeouts apply where no caller's deadline is earlier, for example while go-redis asks
// Sentinels and Cluster nodes in the background.
const (
	dialTimeout   = 500 * time.Millisecond
	socketTimeout = time.Second
)

// NewClient returns a client with the settings that a [Store] needs. redisURL is one of
//
//	redis://[user:password@]host[:6379][/db]
//	redis+sentinel://[user:password@]host[:26379],host,…[/db]?master=name
//	redis+cluster://[user:password@]host[:6379],host,…
//
// With rediss in place of redis, connections use TLS 1.2 or later and certificates
// are verified. User and password are those of the Redis servers. Those of Sentinel
// are the parameters sentinel_username and sentinel_password. Any other parameter
// is an error. Errors never quote the URL.
func NewClient(redisURL string, opts Options) (redis.UniversalClient, error) {
	u, err := parseURL(redisURL)
	if err != nil {
		return nil, fmt.Errorf("redisstore: Redis URL: %w", err)
	}
	logToSlog()
	u.ClientName = "sessiond"
	u.DisableIdentity = true // the client name is enough
	// With RESP3 the client would look for push messages before and after every command. The store
	// uses none.
	u.Protocol = 2
	u.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

	u.ContextTimeoutEnabled = true
	u.DialTimeout = dialTimeout
	u.DialerRetries = 1
	u.ReadTimeout = socketTimeout
	u.WriteTimeout = socketTimeout
	u.PoolTimeout = socketTimeout
	// A server that refuses a write is not asked again. The ledger is asked instead.
	u.MaxRetries = -1

	u.PoolSize = opts.PoolSize
	// Pipelines share the pool with other commands, because most of the work is checks, which are
	// pipelines.
	u.PipelinePoolSize = -1
	return redis.NewUniversalClient(u), nil
}

// logToSlog sends go-redis's log to slog instead of stderr. The log reports failed connections, of
// which each caller also gets an error.
var logToSlog = sync.OnceFunc(func() { redis.SetLogger(slogger{}) })

type slogger struct{}

func (slogger) Printf(ctx context.Context, format string, v ...any) {
	slog.DebugContext(ctx, "go-redis: "+fmt.Sprintf(format, v...))
}
