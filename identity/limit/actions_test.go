package limit

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// If a known device used the account's counter, an attack on the account would lock the device out. If it
// used only its own counter, somebody with many device tokens of the account could guess with each of them.
func TestLogin_ChargesKnownDeviceToAddressDeviceAndAllDevicesOfAccount_ASVS_V6_3_1(t *testing.T) {
	r := Defaults()
	for _, c := range []struct {
		why, account, device, ip string
		want                     []Key
	}{
		{
			"an unknown device", "ada", "", "203.0.113.7",
			[]Key{r.LoginAddress.Of("203.0.113.7"), r.LoginNetwork.Of("203.0.113.0/24"), r.LoginPair.Of("203.0.113.7", "ada"), r.LoginAccount.Of("ada")},
		},
		{
			"an unknown device in an IPv6 network", "ada@example.com", "", "2001:db8:1:2:3::4%eth0",
			[]Key{
				r.LoginAddress.Of("2001:db8:1:2::/64"), r.LoginNetwork.Of("2001:db8:1::/48"),
				r.LoginPair.Of("2001:db8:1:2::/64", "ada@example.com"), r.LoginAccount.Of("ada@example.com"),
			},
		},
		{
			"a known device", "ada", "d1", "203.0.113.7",
			[]Key{r.LoginAddress.Of("203.0.113.7"), r.LoginDevice.Of("d1", "ada"), r.LoginDevices.Of("ada")},
		},
	} {
		if got := r.Login(c.account, c.device, c.ip); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.why, got, c.want)
		}
	}
}

func TestNetwork_IsThe24OfIPv4AndThe48OfIPv6(t *testing.T) {
	for ip, want := range map[string]string{
		"203.0.113.7": "203.0.113.0/24", "::ffff:203.0.113.7": "203.0.113.0/24", "2001:db8:1:2:3::4": "2001:db8:1::/48", "": "", "x": "",
	} {
		if got := Network(ip); got != want {
			t.Errorf("Network(%q) = %q, want %q", ip, got, want)
		}
	}
}

// Each rule that counts what addresses do needs a twin for networks.
func TestRules_LimitNetworksWhereTheyLimitAddresses_ASVS_V2_4_1(t *testing.T) {
	rules := Defaults()
	names := map[string]*Rule{}
	for _, r := range rules.All() {
		if names[r.Name] = r; r.Counts == "" || (r.Every > 0) == (r.Backoff > 0) {
			t.Errorf("%+v: want Counts, and either Every or Backoff", r)
		}
	}
	for name, r := range names {
		action, isAddress := strings.CutSuffix(name, "-address")
		if n := names[action+"-network"]; isAddress && (n == nil || n.Burst != 5*r.Burst || 5*n.Every != r.Every) {
			t.Errorf("%s: the rule for networks is %+v, want five times the numbers", name, n)
		}
	}
}

func TestRule_TextHasBurstAndPeriod(t *testing.T) {
	bucket, backoff := Rule{Name: "bucket", Burst: 1, Every: time.Second}, Rule{Name: "backoff", Burst: 1, Backoff: time.Second}
	for text, want := range map[string][2]Rule{
		"100/10s":     {{Name: "bucket", Burst: 100, Every: 10 * time.Second}, {Name: "backoff", Burst: 100, Backoff: 10 * time.Second}},
		"8/30m":       {{Name: "bucket", Burst: 8, Every: 30 * time.Minute}, {Name: "backoff", Burst: 8, Backoff: 30 * time.Minute}},
		"1/1h":        {{Name: "bucket", Burst: 1, Every: time.Hour}, {Name: "backoff", Burst: 1, Backoff: time.Hour}},
		"1000000/12h": {{Name: "bucket", Burst: 1_000_000, Every: 12 * time.Hour}, {Name: "backoff", Burst: 1_000_000, Backoff: 12 * time.Hour}},
	} {
		for i, r := range []Rule{bucket, backoff} {
			if err := r.UnmarshalText([]byte(text)); err != nil || r != want[i] {
				t.Errorf("%s: got %+v, %v, want %+v", text, r, err, want[i])
			}
			if got, err := r.MarshalText(); err != nil || string(got) != text {
				t.Errorf("%s is written as %s, %v", text, got, err)
			}
		}
	}
	for _, text := range []string{"", "5", "/1s", "5/", "0/1s", "-1/1s", "x/1s", "1.5/1s", "5/1", "5/0s", "5/-1s", "5/1us", "5/1.5ms", "5/25h", "1000001/1s", "5/1s/1s"} {
		r := bucket
		if err := r.UnmarshalText([]byte(text)); err == nil || r != bucket {
			t.Errorf("%q was accepted as %+v", text, r)
		}
	}
	// A backoff counter waits a second at first, and forgets its charges after a day.
	for _, text := range []string{"5/50ms", "5/13h"} {
		r := backoff
		if err := r.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was accepted as %+v", text, r)
		}
	}
}
