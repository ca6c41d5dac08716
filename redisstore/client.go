package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
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

// parseURL reads the forms of [NewClient]. url.Parse alone does not: it takes
// one host with one port, and its errors quote the password.
func parseURL(raw string) (*redis.UniversalOptions, error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	at := strings.LastIndex(authority, "@") + 1
	u, err := url.Parse("redis://" + authority[:at] + "host" + tail)
	if err != nil {
		return nil, errors.New("not a URL; is a character of the password not percent-encoded?")
	}

	o := &redis.UniversalOptions{}
	kind, ours := strings.CutPrefix(scheme, "redis")
	kind, secure := strings.CutPrefix(kind, "s")
	if secure {
		// Without a ServerName, each server has to prove the name it is dialed by.
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	port := "6379"
	switch {
	case !ours:
		return nil, errors.New("begin it with redis:// or rediss://")
	case kind == "+sentinel":
		port = "26379"
	case kind == "+cluster":
		o.IsClusterMode = true
	case kind != "":
		return nil, errors.New("redis or rediss is followed by ://, +sentinel:// or +cluster://")
	}
	if o.Addrs, err = addresses(authority[at:], port); err != nil {
		return nil, err
	}
	if kind == "" && len(o.Addrs) > 1 {
		return nil, errors.New("several hosts need +sentinel or +cluster")
	}

	var hasPassword bool
	o.Username = u.User.Username()
	if o.Password, hasPassword = u.User.Password(); o.Username != "" && !hasPassword {
		return nil, errors.New("a user without a password; a password alone is written :password@")
	}
	if db := strings.Trim(u.Path, "/"); db != "" {
		if o.DB, err = strconv.Atoi(db); err != nil || o.DB < 0 {
			return nil, errors.New("the path is not the number of a database")
		}
		if o.IsClusterMode && o.DB != 0 {
			return nil, errors.New("a Cluster has database 0 only")
		}
	}
	return o, parameters(o, u, kind == "+sentinel")
}

func parameters(o *redis.UniversalOptions, u *url.URL, sentinel bool) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.Fragment != "" {
		return errors.New("the parameters cannot be read")
	}
	known := []string{"master", "sentinel_username", "sentinel_password"}
	for name, values := range query {
		if !sentinel || !slices.Contains(known, name) || len(values) > 1 {
			return fmt.Errorf("unknown or repeated parameter %q", name)
		}
	}
	o.MasterName = query.Get("master")
	o.SentinelUsername = query.Get("sentinel_username")
	o.SentinelPassword = query.Get("sentinel_password")
	if sentinel && o.MasterName == "" {
		return errors.New("name the master: ?master=name")
	}
	return nil
}

// addresses completes each of a list of hosts with the port.
func addresses(list, port string) ([]string, error) {
	var addrs []string
	for host := range strings.SplitSeq(list, ",") {
		u, err := url.Parse("//" + host)
		if err != nil || u.Hostname() == "" || u.Host != host {
			return nil, errors.New("a host is missing or cannot be read")
		}
		if p := u.Port(); p != "" {
			addrs = append(addrs, net.JoinHostPort(u.Hostname(), p))
		} else {
			addrs = append(addrs, net.JoinHostPort(u.Hostname(), port))
		}
	}
	return addrs, nil
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
