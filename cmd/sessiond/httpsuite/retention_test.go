package httpsuite

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/sqlstore"
)

// A login shows its network instead of its address after ADDRESS_RETENTION, and is gone after
// HISTORY_RETENTION. The clock is moved while the service is down, because it removes old data when
// it starts.
func TestRetention_CutsAddressesAndThenEndsTheHistory_ASVS_V14_2_4(t *testing.T) {
	const days = 24 * time.Hour
	settings := app.Settings{
		AccessTokenTTL: time.Hour, SessionIdleTTL: 30 * days, SessionMaxTTL: 90 * days, HistoryRetention: 400 * days, AddressRetention: 90 * days,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	eachDatabase(t, func(t *testing.T, db *sqlstore.DB, store *redisstore.Store) {
		c := newClock()
		start := c.Now()
		s, stop := runWith(t, settings, db, store, c)
		p := s.register(t)
		for _, address := range []string{"203.0.113.77", "2001:db8:1:2::77"} {
			from := []option{header("X-Forwarded-For", address), header("User-Agent", firefox)}
			s.login(t, p, from...)
			s.call(t, "POST", "/loginUser", append(from, credentials(p.username, "wrong passphrase"))...).want(t, 403)
		}
		s.call(t, "DELETE", "/v1/sessions?except=current", bearer(p.token)).want(t, 200)
		history := func(after time.Duration) map[string]int {
			t.Helper()
			stop()
			c.set(start.Add(after))
			s, stop = runWith(t, settings, db, store, c)
			token := s.login(t, p, header("X-Forwarded-For", "192.0.2.1"))
			seen := make(map[string]int)
			var page struct {
				Items []struct {
					IPAddress string `json:"ip_address"`
					UserAgent string `json:"user_agent"`
				}
			}
			s.call(t, "GET", "/v1/logins?limit=100", bearer(token)).want(t, 200).into(t, &page)
			for _, item := range page.Items {
				seen[item.IPAddress+" "+item.UserAgent]++
			}
			return seen
		}
		// The history shows no user agent of a failed login.
		both := func(seen map[string]int, address, userAgent string) bool {
			return seen[address+" "+userAgent] == 1 && seen[address+" "] == 1
		}
		if seen := history(80 * days); !both(seen, "203.0.113.77", firefox) || !both(seen, "2001:db8:1:2::77", firefox) {
			t.Errorf("after 80 days, the history has %v", seen)
		}
		const device = "Firefox on Windows"
		await(t, "after 91 days, addresses are networks and user agents are devices", func() bool {
			seen := history(91 * days)
			return both(seen, "203.0.113.0/24", device) && both(seen, "2001:db8:1::/48", device)
		})
		await(t, "after 401 days, the logins of the first day are gone", func() bool {
			seen := history(401 * days)
			return seen["203.0.113.0/24 "+device]+seen["203.0.113.0/24 "] == 0 && seen["192.0.2.1 Go-http-client/1.1"] > 0
		})
	})
}
