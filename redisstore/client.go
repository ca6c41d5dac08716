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

// The timeouts of a connection to Redis apply if the caller has no earlier deadline, for example
// while go-redis asks Sentinels and Cluster nodes in the background.
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
// With rediss instead of redis, connections use TLS 1.2 or later and certificates are verified, by the
// authorities that the system trusts, or by those in the PEM file that the parameter ca_file names. The
// user and password before the hosts are for the Redis servers. The parameters sentinel_username and
// sentinel_password are for Sentinel. Any other parameter is an error. Errors never quote the URL.
func NewClient(redisURL string, opts Options) (redis.UniversalClient, error) {
	u, err := parseURL(redisURL)
	if err != nil {
		return nil, fmt.Errorf("redisstore: Redis URL: %w", err)
	}
	logToSlog()
	u.ClientName = "sessiond"
	u.DisableIdentity = true // CLIENT LIST already shows the client name
	// With RESP3, go-redis would look for push messages before and after every command, but the
	// store uses no push messages.
	u.Protocol = 2
	u.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

	u.ContextTimeoutEnabled = true
	u.DialTimeout = dialTimeout
	u.DialerRetries = 1
	u.ReadTimeout = socketTimeout
	u.WriteTimeout = socketTimeout
	u.PoolTimeout = socketTimeout
	// The store does not retry a command, because it can ask the ledger instead. On a Cluster this
	// does not limit MaxRedirects, because a slot may have moved.
	u.MaxRetries = -1

	u.PoolSize = opts.PoolSize
	// Pipelines share one connection pool with all other commands, because most commands are checks
	// of tokens, which are pipelines too.
	u.PipelinePoolSize = -1
	return redis.NewUniversalClient(u), nil
}

// logToSlog sends go-redis's log to slog at debug level instead of to stderr. It reports failed
// connections, about which every caller gets an error anyway.
var logToSlog = sync.OnceFunc(func() { redis.SetLogger(slogger{}) })

type slogger struct{}

func (slogger) Printf(ctx context.Context, format string, v ...any) {
	slog.DebugContext(ctx, "go-redis: "+fmt.Sprintf(format, v...))
}
