package redisstore

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func TestNewClient_DisablesRetriesAndSetsTimeoutsOfAtMostOneSecond(t *testing.T) {
	client, err := NewClient("redis://localhost:1/2", Options{PoolSize: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	o := client.(*redis.Client).Options()
	if !o.ContextTimeoutEnabled || o.MaxRetries != 0 || o.DialerRetries != 1 || o.PoolSize != 7 || o.DB != 2 ||
		o.MaintNotificationsConfig.Mode != maintnotifications.ModeDisabled || o.ClientName != "sessiond" {
		t.Errorf("NewClient set the wrong options: %+v", o)
	}
	for name, timeout := range map[string]time.Duration{
		"dial": o.DialTimeout, "read": o.ReadTimeout, "write": o.WriteTimeout, "pool": o.PoolTimeout,
	} {
		if timeout <= 0 || timeout > time.Second {
			t.Errorf("the %s timeout is %v, want at most a second", name, timeout)
		}
	}
}
