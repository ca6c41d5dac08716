package embedded_test

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/sessiond/sessiond/redisstore/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) (*embedded.Server, *redis.Client) {
	t.Helper()
	server, err := embedded.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	opts, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	return server, client
}

func TestServer_ExpiresKeyAfterItsTimeToLive(t *testing.T) {
	_, client := start(t)
	at := time.Now().Add(300 * time.Millisecond)
	client.Do(t.Context(), "SET", "k", "v", "PXAT", at.UnixMilli())
	client.Set(t.Context(), "stays", "v", time.Hour)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for errors.Is(client.Get(t.Context(), "k").Err(), nil) {
		if time.Since(at) > time.Minute {
			t.Fatal("the key did not expire within a minute")
		}
		<-tick.C
	}
	if early := time.Until(at); early > 5*time.Millisecond {
		t.Errorf("the key expired %v too early", early)
	}
	if err := client.Get(t.Context(), "stays").Err(); err != nil {
		t.Errorf("the key that expires in an hour: %v", err)
	}
}

func TestServer_RequiresPassword(t *testing.T) {
	server, _ := start(t)
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	if host := u.Hostname(); host != "127.0.0.1" {
		t.Errorf("the server listens on %s, want 127.0.0.1", host)
	}
	client := redis.NewClient(&redis.Options{Addr: u.Host})
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", time.Minute).Err(); err == nil {
		t.Error("a client without the password could write")
	}
}

func TestServer_SharesNoKeysWithAnotherServer(t *testing.T) {
	_, one := start(t)
	_, other := start(t)
	one.Set(t.Context(), "k", "v", time.Minute)
	if n := other.Exists(t.Context(), "k").Val(); n != 0 {
		t.Error("a key that was written to one server is in another server")
	}
}

func TestServer_CloseCanBeCalledTwice(t *testing.T) {
	server, client := start(t)
	server.Close()
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Error("the server answers after Close")
	}
	server.Close()
}
