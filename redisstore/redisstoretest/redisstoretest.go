// Package redisstoretest gives tests a [redisstore.Store]: on the embedded
// Redis always, and on real ones where the environment names them.
//
//	SESSIOND_TEST_REDIS_URL      a single Redis, as redisstore.NewClient reads it
//	SESSIOND_TEST_REDIS_CLUSTER  host:port,host:port,… of a Cluster
//	SESSIOND_TEST_REDIS_SERVER   the program redis-server, if it is not in PATH
//
// A test that needs one that is missing is skipped, and fails instead when
// SESSIOND_TEST_REQUIRE_REAL is 1. The servers of the first two are shared:
// every test keeps to a prefix of its own and leaves nothing behind.
package redisstoretest

import (
	"cmp"
	"context"
	"crypto/rand"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/embedded"
)

const patience = 10 * time.Second

// New returns a store on an embedded Redis of the test's own.
func New(t testing.TB) *redisstore.Store {
	t.Helper()
	return Open(t, URL(t), redisstore.Options{})
}

// NewReal returns a store on the single Redis of the environment.
func NewReal(t testing.TB) *redisstore.Store {
	t.Helper()
	return onShared(t, RealURL(t))
}

// NewCluster returns a store on the Cluster of the environment.
func NewCluster(t testing.TB) *redisstore.Store {
	t.Helper()
	return onShared(t, ClusterURL(t))
}

func onShared(t testing.TB, redisURL string) *redisstore.Store {
	t.Helper()
	return Open(t, redisURL, redisstore.Options{Prefix: Prefix(t, redisURL)})
}

// URL starts an embedded Redis that lasts as long as the test.
func URL(t testing.TB) string {
	t.Helper()
	server, err := embedded.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server.URL()
}

// RealURL is the URL of the single Redis of the environment.
func RealURL(t testing.TB) string {
	t.Helper()
	return fromEnvironment(t, "SESSIOND_TEST_REDIS_URL")
}

// ClusterURL is the URL of the Cluster of the environment.
func ClusterURL(t testing.TB) string {
	t.Helper()
	return "redis+cluster://" + fromEnvironment(t, "SESSIOND_TEST_REDIS_CLUSTER")
}

func fromEnvironment(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		missing(t, "NOT TESTED on a real Redis: %s is not set", name)
	}
	return value
}

// missing ends a test for want of a real server.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("SESSIOND_TEST_REQUIRE_REAL") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Open is [redisstore.Open]; the store is closed when the test ends. Timeouts
// that opts leaves to us are 10 s: a busy test machine is no outage.
func Open(t testing.TB, redisURL string, opts redisstore.Options) *redisstore.Store {
	t.Helper()
	opts.LookTimeout = cmp.Or(opts.LookTimeout, patience)
	opts.ApplyTimeout = cmp.Or(opts.ApplyTimeout, patience)
	store, err := redisstore.Open(redisURL, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// Client returns a client for looking at a Redis from outside; it is closed when
// the test ends.
func Client(t testing.TB, redisURL string) redis.UniversalClient {
	t.Helper()
	client, err := redisstore.NewClient(redisURL, redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// Prefix returns a random key prefix. When the test ends, the keys under it are deleted.
func Prefix(t testing.TB, redisURL string) string {
	t.Helper()
	prefix := "test-" + rand.Text() + ":"
	client := Client(t, redisURL)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, key := range Keys(ctx, t, client, prefix) {
			if err := client.Del(ctx, key).Err(); err != nil {
				t.Errorf("delete %s: %v", key, err)
			}
		}
	})
	return prefix
}

// Keys lists the keys under a prefix, on a Cluster those of all its masters.
func Keys(ctx context.Context, t testing.TB, client redis.UniversalClient, prefix string) []string {
	t.Helper()
	var mu sync.Mutex // a Cluster's masters are asked at once
	var keys []string
	scan := func(ctx context.Context, node *redis.Client) error {
		found := node.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for found.Next(ctx) {
			mu.Lock()
			keys = append(keys, found.Val())
			mu.Unlock()
		}
		return found.Err()
	}
	var err error
	switch client := client.(type) {
	case *redis.ClusterClient:
		err = client.ForEachMaster(ctx, scan)
	case *redis.Client:
		err = scan(ctx, client)
	}
	if err != nil {
		t.Fatalf("list the keys under %s: %v", prefix, err)
	}
	return keys
}
