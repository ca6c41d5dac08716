// Package redisstoretest opens a [redisstore.Store] for a test, on the embedded Redis or on real
// servers that the environment names:
//
//	SESSIOND_TEST_REDIS_URL      a single Redis, in a form of redisstore.NewClient
//	SESSIOND_TEST_REDIS_CLUSTER  host:port,host:port,… of a Cluster
//	SESSIOND_TEST_REDIS_SERVER   path of the program redis-server, if it is not in PATH, or of valkey-server
//
// If one of the variables is missing, the tests that need it are skipped, or fail if
// SESSIOND_TEST_REQUIRE_REAL is 1. Every test uses its own key prefix and deletes its keys, because
// tests share the single Redis and the Cluster.
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
	"github.com/sessiond/sessiond/session"
)

// storeTimeout is the default timeout of a store in tests.
const storeTimeout = 10 * time.Second

// New starts an embedded Redis and returns a store on it.
func New(t testing.TB) *redisstore.Store {
	t.Helper()
	return Open(t, URL(t), redisstore.Options{})
}

// NewReal returns a store on the real Redis at SESSIOND_TEST_REDIS_URL.
func NewReal(t testing.TB) *redisstore.Store {
	t.Helper()
	return onShared(t, RealURL(t))
}

// NewCluster returns a store on the Cluster at SESSIOND_TEST_REDIS_CLUSTER.
func NewCluster(t testing.TB) *redisstore.Store {
	t.Helper()
	return onShared(t, ClusterURL(t))
}

func onShared(t testing.TB, redisURL string) *redisstore.Store {
	t.Helper()
	return Open(t, redisURL, redisstore.Options{Prefix: Prefix(t, redisURL)})
}

// URL starts an embedded Redis, which stops when the test ends, and returns its URL.
func URL(t testing.TB) string {
	t.Helper()
	server, err := embedded.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server.URL()
}

// RealURL returns SESSIOND_TEST_REDIS_URL. Without it, the test is skipped or fails.
func RealURL(t testing.TB) string {
	t.Helper()
	return fromEnvironment(t, "SESSIOND_TEST_REDIS_URL")
}

// ClusterURL returns the URL of SESSIOND_TEST_REDIS_CLUSTER. Without it, the test is skipped or
// fails.
func ClusterURL(t testing.TB) string {
	t.Helper()
	return "redis+cluster://" + fromEnvironment(t, "SESSIOND_TEST_REDIS_CLUSTER")
}

func fromEnvironment(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		missing(t, "NOT TESTED on a real Redis, because %s is not set", name)
	}
	return value
}

// missing skips a test that needs a real Redis, or fails it if SESSIOND_TEST_REQUIRE_REAL is 1.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("SESSIOND_TEST_REQUIRE_REAL") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Open returns a store that trusts the servers it finds, as after [Trust], and is closed when the
// test ends. The default timeouts are 10 s, because a busy test machine is not an outage.
func Open(t testing.TB, redisURL string, opts redisstore.Options) *redisstore.Store {
	t.Helper()
	opts.LookTimeout = cmp.Or(opts.LookTimeout, storeTimeout)
	opts.ApplyTimeout = cmp.Or(opts.ApplyTimeout, storeTimeout)
	store, err := redisstore.Open(redisURL, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if opts.Epochs == nil {
		Trust(t, store)
	}
	return store
}

// epochs numbers the servers of all tests.
var epochs struct {
	sync.Mutex
	numbers map[string]int64
}

// Trust makes the store trust the servers that it uses now, for an hour. All stores give a server
// the same epoch.
func Trust(t testing.TB, store *redisstore.Store) {
	t.Helper()
	servers, err := store.Servers(context.Background())
	for range 3 { // a busy machine may be slow; a server that is away is not trusted
		if err != nil {
			servers, err = store.Servers(context.Background())
		}
	}
	if err != nil {
		t.Logf("the servers that do not answer are not trusted: %v", err)
	}
	epochs.Lock()
	defer epochs.Unlock()
	var current []session.Epoch
	for _, s := range servers {
		number, ok := epochs.numbers[s.ID]
		if !ok {
			number = int64(len(epochs.numbers) + 1)
			if epochs.numbers == nil {
				epochs.numbers = map[string]int64{}
			}
			epochs.numbers[s.ID] = number
		}
		current = append(current, session.Epoch{Number: number, Server: s.ID})
	}
	store.Epochs().Learn(current, time.Now().Add(time.Hour), 0)
}

// Client returns a client with which a test can read and change a Redis. It is closed when the test
// ends.
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

// Prefix returns a random key prefix. Keys that begin with the prefix are deleted when the test
// ends.
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

// Keys returns all keys that begin with prefix. On a Cluster it searches all masters.
func Keys(ctx context.Context, t testing.TB, client redis.UniversalClient, prefix string) []string {
	t.Helper()
	var mu sync.Mutex // guards keys, because ForEachMaster calls scan concurrently
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
