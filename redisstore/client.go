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

// The client gives up by these where no deadline of a call comes first, as
// when it asks Sentinels and nodes behind a call's back.
const (
	dialTimeout   = 500 * time.Millisecond
	socketTimeout = time.Second
)

// NewClient returns a client set up as a [Store] needs it, on the Redis that
// redisURL names:
//
//	redis://[user:password@]host[:6379][/db]
//	redis+sentinel://[user:password@]host[:26379],host,…[/db]?master=name
//	redis+cluster://[user:password@]host[:6379],host,…
//
// and the same with rediss in place of redis, over TLS 1.2 or later with the
// certificates checked. User and password are those of the Redis servers; those of
// Sentinel are the parameters sentinel_username and sentinel_password. Any
// other parameter is refused. The error never quotes the URL.
func NewClient(redisURL string, opts Options) (redis.UniversalClient, error) {
	u, err := parseURL(redisURL)
	if err != nil {
		return nil, fmt.Errorf("redisstore: Redis URL: %w", err)
	}
	logToSlog()
	u.ClientName = "sessiond"
	u.DisableIdentity = true // says nothing that its name does not
	// RESP3 brings pushes. None is of use here, and the client looks for them
	// before and after every command.
	u.Protocol = 2
	u.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

	u.ContextTimeoutEnabled = true
	u.DialTimeout = dialTimeout
	u.DialerRetries = 1
	u.ReadTimeout = socketTimeout
	u.WriteTimeout = socketTimeout
	u.PoolTimeout = socketTimeout
	// A server that refuses a write is not asked again: the ledger is.
	u.MaxRetries = -1

	u.PoolSize = opts.PoolSize
	// Checks are pipelines and most of what we do: they take the pool itself.
	u.PipelinePoolSize = -1
	return redis.NewUniversalClient(u), nil
}

// logToSlog hands over what go-redis would print on stderr. It tells of
// connections that failed, which every caller learns as an error as well.
var logToSlog = sync.OnceFunc(func() { redis.SetLogger(slogger{}) })

type slogger struct{}

func (slogger) Printf(ctx context.Context, format string, v ...any) {
	if slog.Default().Enabled(ctx, slog.LevelDebug) {
		slog.DebugContext(ctx, "go-redis: "+fmt.Sprintf(format, v...))
	}
}
