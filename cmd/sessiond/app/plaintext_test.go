package app

import (
	"slices"
	"strings"
	"testing"
)

// What splitURL returns is printed and looked up, so no part of a password may be
// among it, however the URL was mistyped.
func TestHostsOfURL(t *testing.T) {
	for _, c := range []struct {
		url  string
		want string // with commas between; "malformed" for an error
	}{
		{"redis://127.0.0.1", "127.0.0.1"},
		{"redis://:s3cret@127.0.0.1:6379/0", "127.0.0.1"},
		{"redis://:s3c@ret,s3cret@127.0.0.1:6379/0", "127.0.0.1"},
		{"redis://:s3cret%2F%40@redis_1.example.com", "redis_1.example.com"},
		{"redis://[::1]:6379", "::1"},
		{"redis+cluster://:s3cret@a:1,b,[::1]:2,10.0.0.1:3", "a,b,::1,10.0.0.1"},
		{"redis+sentinel://a:1,b:2/0?master=m", "a,b"},
		{"https://api.pwnedpasswords.com/range/", "api.pwnedpasswords.com"},
		{"postgres://u:s3cret@db:5432/x?sslmode=disable", "db"},
		{"postgres:///x?host=/var/run/postgresql", ""},
		{"postgres://u:s3cret@a/x?host=b,c", "b,c"},
		{"postgres://u:s3cret@a/x?host=b&hostaddr=192.0.2.1", "b,192.0.2.1"},

		{"redis://:abc,s3cret/ghi@127.0.0.1:6379/0", "malformed"},
		{"redis://:s3cret/ghi@127.0.0.1", "malformed"},
		{"redis://:abc,s3cret?ghi@127.0.0.1", "malformed"},
		{"redis://:abc,s3cret#ghi@127.0.0.1", "malformed"},
		{"redis://:s3cret", "malformed"},
		{"redis://:abc@s3cret/ghi@127.0.0.1", "malformed"},
		{"redis://127.0.0.1,s3cret!", "malformed"},
		{"redis://s3%63ret", "malformed"},
		{"postgres://u:s3cret/ghi@127.0.0.1/x?sslmode=disable", "malformed"},
		{"postgres://u@127.0.0.1/x?host=s3cret!", "malformed"},
	} {
		_, hosts, _, err := splitURL(c.url)
		switch {
		case c.want == "malformed":
			if err == nil || len(hosts) > 0 || !strings.Contains(err.Error(), "percent-encoded") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: got %q, %v", c.url, hosts, err)
			}
		case err != nil || !slices.Equal(hosts, strings.FieldsFunc(c.want, func(r rune) bool { return r == ',' })):
			t.Errorf("%s: got %q, %v, want %s", c.url, hosts, err, c.want)
		}
	}
}
