package identity

import (
	"slices"
	"testing"

	"github.com/sessiond/sessiond/identity/limit"
)

// TestLoginKeys: a device that is known takes of its own budget alone, so that
// no attack on the name, from whatever address, can lock it out.
func TestLoginKeys(t *testing.T) {
	for _, c := range []struct {
		why, login, device, ip string
		want                   []limit.Key
	}{
		{
			"a stranger", "Ada", "", "203.0.113.7",
			[]limit.Key{loginAddress.Of("203.0.113.7"), loginPair.Of("203.0.113.7", "ada"), loginAccount.Of("ada")},
		},
		{
			"a stranger in an IPv6 network", "ada@Example.com", "", "2001:db8:1:2:3::4%eth0",
			[]limit.Key{loginAddress.Of("2001:db8:1:2::/64"), loginPair.Of("2001:db8:1:2::/64", "ada@example.com"), loginAccount.Of("ada@example.com")},
		},
		{"a device that is known", "Ada", "d1", "203.0.113.7", []limit.Key{loginDevice.Of("d1", "ada")}},
	} {
		if got := loginKeys(c.login, c.device, c.ip); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.why, got, c.want)
		}
	}
}
