package limit

import (
	"slices"
	"testing"
)

// If a known device used the account's counter, an attack on the account would lock the device out.
func TestLogin_ChargesKnownDeviceOnlyToItsOwnCounter(t *testing.T) {
	for _, c := range []struct {
		why, account, device, ip string
		want                     []Key
	}{
		{
			"an unknown device", "ada", "", "203.0.113.7",
			[]Key{loginAddress.Of("203.0.113.7"), loginPair.Of("203.0.113.7", "ada"), loginAccount.Of("ada")},
		},
		{
			"an unknown device in an IPv6 network", "ada@example.com", "", "2001:db8:1:2:3::4%eth0",
			[]Key{loginAddress.Of("2001:db8:1:2::/64"), loginPair.Of("2001:db8:1:2::/64", "ada@example.com"), loginAccount.Of("ada@example.com")},
		},
		{"a known device", "ada", "d1", "203.0.113.7", []Key{loginDevice.Of("d1", "ada")}},
	} {
		if got := Login(c.account, c.device, c.ip); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.why, got, c.want)
		}
	}
}
