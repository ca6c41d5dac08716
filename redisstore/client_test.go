package redisstore

import (
	"crypto/tls"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func TestParseURL(t *testing.T) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	for raw, want := range map[string]redis.UniversalOptions{
		"redis://localhost":                 {Addrs: []string{"localhost:6379"}},
		"redis://10.0.0.1:7000/3":           {Addrs: []string{"10.0.0.1:7000"}, DB: 3},
		"redis://[::1]/":                    {Addrs: []string{"[::1]:6379"}},
		"redis://:p%40ss@[fe80::1]:7000/0":  {Addrs: []string{"[fe80::1]:7000"}, Password: "p@ss"},
		"rediss://ada:pa%2Fss@r.example":    {Addrs: []string{"r.example:6379"}, Username: "ada", Password: "pa/ss", TLSConfig: secure},
		"rediss://ada:p@ss@r.example":       {Addrs: []string{"r.example:6379"}, Username: "ada", Password: "p@ss", TLSConfig: secure},
		"redis+cluster://a":                 {Addrs: []string{"a:6379"}, IsClusterMode: true},
		"redis+cluster://:p@a:1,b,[::1]:3/": {Addrs: []string{"a:1", "b:6379", "[::1]:3"}, Password: "p", IsClusterMode: true},
		"rediss+cluster://a:1,b:2":          {Addrs: []string{"a:1", "b:2"}, IsClusterMode: true, TLSConfig: secure},
		"redis+sentinel://a,b:2,c/4?master=m": {
			Addrs: []string{"a:26379", "b:2", "c:26379"}, MasterName: "m", DB: 4,
		},
		"rediss+sentinel://ada:p@a?master=m&sentinel_username=u&sentinel_password=p%26w": {
			Addrs: []string{"a:26379"}, MasterName: "m", Username: "ada", Password: "p",
			SentinelUsername: "u", SentinelPassword: "p&w", TLSConfig: secure,
		},
	} {
		got, err := parseURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		} else if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", raw, *got, want)
		}
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	for _, raw := range []string{
		"",
		"hunter2",
		"localhost:6379",
		"http://:hunter2@localhost",
		"Redis://:hunter2@localhost",
		"redis+tls://:hunter2@localhost",
		"redisss://:hunter2@localhost",
		"redis://",
		"redis://:hunter2@",
		"redis://:hunter2@:6379",              // no host is not localhost
		"redis://:hunter2@a,b",                // of what kind?
		"redis+cluster://:hunter2@a,,b",       //
		"redis+cluster://:hunter2@a:1,b/1",    // a Cluster has no databases
		"redis+cluster://:hunter2@a:b",        //
		"redis://hunter2@localhost",           // a password where the user belongs
		"redis://:hunter2%zz@localhost",       //
		"redis://:hunter2/@localhost",         // an unescaped slash
		"redis://:hunter2#@localhost",         //
		"redis://:hunter2@localhost/x",        //
		"redis://:hunter2@localhost/-1",       //
		"redis://:hunter2@localhost/1/2",      //
		"redis://:hunter2@localhost#1",        //
		"redis://:hunter2@localhost?db=1",     // an option of another client
		"redis://:hunter2@localhost?master=m", // not Sentinel
		"redis+sentinel://:hunter2@localhost", // no master
		"redis+sentinel://:hunter2@localhost?master=",
		"redis+sentinel://:hunter2@localhost?master=a&master=b",
		"redis+sentinel://:hunter2@localhost?master=a&sentinel_pasword=x",
		"redis+sentinel://:hunter2@localhost?master=a;b",
	} {
		client, err := NewClient(raw, Options{})
		if err == nil {
			_ = client.Close()
			t.Errorf("%s was accepted", raw)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error quotes the password: %v", err)
		}
	}
}

// TestClientOptions: what the defaults of the client would do to a check is told in client.go.
func TestClientOptions(t *testing.T) {
	client, err := NewClient("redis://localhost:1/2", Options{PoolSize: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	o := client.(*redis.Client).Options()
	if !o.ContextTimeoutEnabled || o.MaxRetries != 0 || o.DialerRetries != 1 || o.PoolSize != 7 || o.DB != 2 ||
		o.MaintNotificationsConfig.Mode != maintnotifications.ModeDisabled || o.ClientName != "sessiond" {
		t.Errorf("%+v", o)
	}
	for name, timeout := range map[string]time.Duration{
		"dial": o.DialTimeout, "read": o.ReadTimeout, "write": o.WriteTimeout, "pool": o.PoolTimeout,
	} {
		if timeout <= 0 || timeout > time.Second {
			t.Errorf("%s timeout %v", name, timeout)
		}
	}
}
