package limit

import (
	"slices"
	"testing"
)

// TestLoginKeys: a device that is known takes of its own budget alone, so that
// no attack on the name, from whatever address, can lock it out.
func TestLoginKeys(t *testing.T) {
	for _, c := range []struct {
		why, account, device, ip string
		want                     []Key
	}{
		{
			"a stranger", "ada", "", "203.0.113.7",
			[]Key{loginAddress.Of("203.0.113.7"), loginPair.Of("203.0.113.7", "ada"), loginAccount.Of("ada")},
		},
		{
			"a stranger in an IPv6 network", "ada@example.com", "", "2001:db8:1:2:3::4%eth0",
			[]Key{loginAddress.Of("2001:db8:1:2::/64"), loginPair.Of("2001:db8:1:2::/64", "ada@example.com"), loginAccount.Of("ada@example.com")},
		},
		{"a device that is known", "ada", "d1", "203.0.113.7", []Key{loginDevice.Of("d1", "ada")}},
	} {
		if got := Login(c.account, c.device, c.ip); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.why, got, c.want)
		}
	}
}
