package redisstore

import (
	"crypto/tls"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestParseURL_AcceptsEveryDocumentedForm_ASVS_V12_3_2(t *testing.T) {
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

func TestNewClient_ErrorForInvalidURLDoesNotQuotePassword(t *testing.T) {
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
		"redis://:hunter2@:6379",              // an empty host does not mean localhost
		"redis://:hunter2@a,b",                // only Sentinel and Cluster may have several hosts
		"redis+cluster://:hunter2@a,,b",       //
		"redis+cluster://:hunter2@a:1,b/1",    // a Cluster has no databases
		"redis+cluster://:hunter2@a:b",        //
		"redis://hunter2@localhost",           // a password needs a colon before it
		"redis://:hunter2%zz@localhost",       //
		"redis://:hunter2/@localhost",         // an unescaped slash in the password
		"redis://:hunter2#@localhost",         //
		"redis://:hunter2@localhost/x",        //
		"redis://:hunter2@localhost/-1",       //
		"redis://:hunter2@localhost/1/2",      //
		"redis://:hunter2@localhost#1",        //
		"redis://:hunter2@localhost?db=1",     // a parameter that only other Redis clients support
		"redis://:hunter2@localhost?master=m", // the parameter master without Sentinel
		"redis+sentinel://:hunter2@localhost", // Sentinel without the parameter master
		"redis+sentinel://:hunter2@localhost?master=",
		"redis+sentinel://:hunter2@localhost?master=a&master=b",
		"redis+sentinel://:hunter2@localhost?master=a&sentinel_pasword=x",
		"redis+sentinel://:hunter2@localhost?master=a;b",
		"redis://:hunter2@localhost?ca_file=url.go",            // without TLS
		"rediss://:hunter2@localhost?ca_file=",                 //
		"rediss://:hunter2@localhost?ca_file=nowhere",          //
		"rediss://:hunter2@localhost?ca_file=url.go",           // no certificate
		"rediss://:hunter2@localhost?ca_file=a&ca_file=url.go", //
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

// TestHosts_ReturnsNoPartOfPassword checks the hosts of a Redis URL, because other code prints them
// and looks them up in DNS. No part of the password may be among the hosts, even if the URL is
// mistyped.
func TestHosts_ReturnsNoPartOfPassword(t *testing.T) {
	for url, want := range map[string][]string{
		"redis://127.0.0.1":                                      {"127.0.0.1"},
		"redis://:s3cret@127.0.0.1:6379/0":                       {"127.0.0.1"},
		"redis://:s3c@ret,s3cret@127.0.0.1:6379/0":               {"127.0.0.1"},
		"rediss://:s3cret%2F%40@redis_1.example.com":             {"redis_1.example.com"},
		"redis://[::1]:6379":                                     {"::1"},
		"redis+cluster://:s3cret@a:1,b,[::1]:2,10.0.0.1:3":       {"a", "b", "::1", "10.0.0.1"},
		"rediss+sentinel://a:1,b:2/0?master=m":                   {"a", "b"},
		"redis://:abc,s3cret/ghi@127.0.0.1:6379/0":               nil,
		"redis://:s3cret/ghi@127.0.0.1":                          nil,
		"redis://:abc,s3cret?ghi@127.0.0.1":                      nil,
		"redis://:abc,s3cret#ghi@127.0.0.1":                      nil,
		"redis://:s3cret":                                        nil,
		"redis://u:123456789":                                    nil, // 123456789 is a password, not a port
		"redis://:abc@s3cret/ghi@127.0.0.1":                      nil,
		"redis://:abc@s3cret?ghi@127.0.0.1":                      nil,
		"redis://s3%63ret":                                       nil,
		"redis+sentinel://:abc@s3cret?master=m&ghi=@127.0.0.1:1": nil,
	} {
		hosts, encrypted, err := Hosts(url)
		switch {
		case want == nil:
			if err == nil || hosts != nil || !strings.Contains(err.Error(), "percent-encoded") || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "12345") {
				t.Errorf("%s: got %q, %v, want a malformed URL", url, hosts, err)
			}
		case err != nil || !slices.Equal(hosts, want) || encrypted != strings.HasPrefix(url, "rediss"):
			t.Errorf("%s: got %q, encrypted %v, %v, want %q", url, hosts, encrypted, err, want)
		}
	}
}
