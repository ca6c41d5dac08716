package httpsuite

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
)

// from makes requests from an address of this machine.
func from(t *testing.T, ip string) *http.Transport {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// signIn signs a person in over a connection of the test's own, and returns the
// session as they see it.
func (s *service) signIn(t *testing.T, transport *http.Transport, base string, p person, h http.Header) map[string]any {
	t.Helper()
	body := strings.NewReader(fmt.Sprintf(`{"login":%q,"password":%q}`, p.username, password))
	r, err := http.NewRequestWithContext(t.Context(), "POST", base+"/v1/sessions", body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range h {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		Session     map[string]any
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != 201 {
		t.Fatalf("signing in: status %d: %v", resp.StatusCode, err)
	}
	var current map[string]any
	s.call(t, "GET", "/v1/sessions/current", bearerOf(answer.AccessToken)).want(t, 200).into(t, &current)
	for _, name := range []string{"ip_address", "device", "user_agent"} {
		if current[name] != answer.Session[name] {
			t.Errorf("%s is %v at once and %v later", name, answer.Session[name], current[name])
		}
	}
	return current
}

// The address of a login is the peer's, in one spelling, whatever headers say.
func TestAddressOfTheConnection(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("NOT TESTED over IPv6: %v", err)
	}
	_ = l.Close()
	s := startServe(t, 1, "ADDR=:0") // both families on one listener
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	s.base = "http://127.0.0.1:" + port
	p := s.register(t)
	for peer, base := range map[string]string{"127.0.0.1": s.base, "127.0.0.7": s.base, "::1": "http://[::1]:" + port} {
		got := s.signIn(t, from(t, peer), base, p, nil)
		if got["ip_address"] != peer {
			t.Errorf("a login from %s is said to be from %v", peer, got["ip_address"])
		}
	}
}

func TestForwardedHeadersWithoutAProxy(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		lies := http.Header{}
		for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "Fastly-Client-Ip"} {
			lies.Set(name, "203.0.113.9")
		}
		lies.Set("Forwarded", "for=203.0.113.9")
		for _, peer := range []string{"127.0.0.1", "127.0.0.7"} {
			if got := s.signIn(t, from(t, peer), s.base, p, lies); got["ip_address"] != peer {
				t.Errorf("a login from %s is said to be from %v", peer, got["ip_address"])
			}
		}
		// Failed ones too.
		s.newSession(t, p.username, "wrong passphrase", func(r *http.Request) { r.Header = lies.Clone(); r.Header.Set("Content-Type", "application/json") }).want(t, 401)
		var history struct {
			Items []struct {
				IP     string `json:"ip_address"`
				Status string `json:"status"`
			}
		}
		s.call(t, "GET", "/v1/logins?limit=1", bearerOf(p.token)).want(t, 200).into(t, &history)
		if got := history.Items[0]; got.Status != "failed" || got.IP != "127.0.0.1" {
			t.Errorf("the failed login reads %+v", got)
		}
	})
}

// Behind trusted proxies the client is the rightmost address that is none of
// theirs; what stands left of it was written by the client.
func TestForwardedByTrustedProxies(t *testing.T) {
	var cases []struct {
		Strategy, Name, Header, Want string
		Headers                      map[string][]string
		RemoteAddr                   string   `json:"remote_addr"`
		TrustedRanges                []string `json:"trusted_ranges"`
		WantErr                      bool     `json:"want_err"`
	}
	if err := json.Unmarshal(vector(t, "xff/realclientip_cases.json"), &cases); err != nil {
		t.Fatal(err)
	}
	ran, byRanges := 0, map[string][]int{}
	for i, c := range cases {
		// What cannot come over TCP, is about another header, or lost its ranges
		// when the cases were written down.
		peerIsIP := c.RemoteAddr == "" || strings.HasPrefix(c.RemoteAddr, "9.9.9.9") || strings.HasPrefix(c.RemoteAddr, "10.0.0.5")
		if c.Strategy != "RightmostTrustedRangeStrategy" || c.WantErr || c.Header != "X-Forwarded-For" || !peerIsIP ||
			strings.HasPrefix(c.Name, "Cloudflare") || c.Name == "Peer empty: walks header as normal" {
			continue
		}
		ranges := strings.Join(append(c.TrustedRanges, "127.0.0.1/32"), ",")
		byRanges[ranges] = append(byRanges[ranges], i)
		ran++
	}
	if ran < 8 {
		t.Errorf("only %d of the cases apply", ran)
	}
	t.Logf("%d of %d cases apply", ran, len(cases))
	for ranges, indices := range byRanges {
		s := startDev(t, t.TempDir(), "TRUSTED_PROXIES="+ranges)
		p := s.register(t)
		for _, i := range indices {
			c := cases[i]
			// 127.0.0.1 is a proxy of ours, 127.0.0.9 a stranger.
			peer, want := "127.0.0.1", c.Want
			if strings.HasPrefix(c.RemoteAddr, "9.9.9.9") {
				peer, want = "127.0.0.9", "127.0.0.9"
			}
			if want == "" {
				want = peer // headers that make no sense leave the peer
			}
			if got := s.signIn(t, from(t, peer), s.base, p, c.Headers); got["ip_address"] != want {
				t.Errorf("%s: the client is %v, want %s", c.Name, got["ip_address"], want)
			}
		}
	}
}

func TestForwardedSpellings(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		for _, c := range []struct {
			name, peer string
			xff        []string
			want       string
		}{
			{"IPv4", "127.0.0.1", []string{"203.0.113.9"}, "203.0.113.9"},
			{"IPv6, in its shortest spelling", "127.0.0.1", []string{"2001:0DB8:0:0:0:0:0:0001"}, "2001:db8::1"},
			{"IPv4 as IPv6", "127.0.0.1", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
			{"a zone means nothing elsewhere", "127.0.0.1", []string{"fe80::1%eth0"}, "fe80::1"},
			{"a client that writes the header itself", "127.0.0.1", []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9"},
			{"and in a header of its own", "127.0.0.1", []string{"198.51.100.1", "203.0.113.9"}, "203.0.113.9"},
			{"through two of ours", "127.0.0.1", []string{"203.0.113.9, 10.1.2.3"}, "203.0.113.9"},
			{"only ours", "127.0.0.1", []string{"10.1.2.3"}, "127.0.0.1"},
			{"one of ours, hidden as IPv6", "127.0.0.1", []string{"203.0.113.9, ::ffff:10.1.2.3"}, "203.0.113.9"},
			{"garbage nearest to us", "127.0.0.1", []string{"203.0.113.9, nonsense"}, "127.0.0.1"},
			{"nothing", "127.0.0.1", nil, "127.0.0.1"},
			{"empty", "127.0.0.1", []string{"", " , "}, "127.0.0.1"},
			{"a stranger who claims to be a proxy", "127.0.0.9", []string{"203.0.113.9"}, "127.0.0.9"},
		} {
			if got := s.signIn(t, from(t, c.peer), s.base, p, http.Header{"X-Forwarded-For": c.xff}); got["ip_address"] != c.want {
				t.Errorf("%s: the client is %v, want %s", c.name, got["ip_address"], c.want)
			}
		}
	}, "TRUSTED_PROXIES=127.0.0.1, 10.0.0.0/8")
}

func TestDevices(t *testing.T) {
	s := startDev(t, t.TempDir())
	p := s.register(t)
	for agent, want := range map[string]string{
		chrome:  "Chrome on macOS",
		firefox: "Firefox on Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1": "Safari on iOS",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36":                   "Chrome on Android",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0":           "Edge on Windows",
		"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0":                                                                  "Firefox on Linux",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15":                   "Safari on macOS",
		"curl/8.5.0": "curl",
		"":           "Unknown device",
	} {
		got := s.signIn(t, from(t, "127.0.0.1"), s.base, p, http.Header{"User-Agent": {agent}})
		if got["device"] != want || got["user_agent"] != agent {
			t.Errorf("%q is called %q and kept as %q, want %q", agent, got["device"], got["user_agent"], want)
		}
	}
}

// A User-Agent is kept in a form that any store and any page can bear.
func TestNaughtyUserAgents(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		for _, agent := range []string{
			"\xff\xfe", "caf\xe9/1.0", "a\x80b", strings.Repeat("x", 8<<10), strings.Repeat("é", 4<<10), strings.Repeat("😀", 300), "a" + strings.Repeat("😀", 300),
			"tab\there", " \t spaces \t ", "\u202eevil\u2066\u200b", "\xed\xa0\x80", "<script>alert(1)</script>", "' OR 1=1 --", "%00", `\u0000`,
		} {
			got := s.signIn(t, from(t, "127.0.0.1"), s.base, p, http.Header{"User-Agent": {agent}})
			kept, _ := got["user_agent"].(string)
			if !utf8.ValidString(kept) || len(kept) > 512 || kept != strings.TrimSpace(kept) ||
				strings.ContainsFunc(kept, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
				t.Errorf("%.40q is kept as %.40q (%d bytes)", agent, kept, len(kept))
			}
			if len(agent) > 600 && len(kept) < 500 {
				t.Errorf("%.40q is cut down to %d bytes", agent, len(kept))
			}
			if device, _ := got["device"].(string); device == "" || len(device) > 200 || !utf8.ValidString(device) {
				t.Errorf("%.40q is called %q", agent, got["device"])
			}
		}
		// All of them are in the list, on every page of it.
		a := s.call(t, "GET", "/user/logins/show", bearerOf(p.token)).want(t, 200)
		if !utf8.Valid(a.body) {
			t.Error("a list that is no UTF-8")
		}
	})
}

// What is tracked of a session follows it: when it was seen last, until when it
// lasts, and its newest token.
func TestSessionIsFollowed(t *testing.T) {
	limits := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour, RefreshGrace: 30 * time.Second}
	eachStore(t, limits, func(t *testing.T, s *service, c *clock) {
		start := c.Now()
		p := s.register(t)
		type tracked struct {
			CreatedAt  time.Time `json:"created_at"`
			LastSeenAt time.Time `json:"last_seen_at"`
			ExpiresAt  time.Time `json:"expires_at"`
		}
		look := func(token string) (seen tracked) {
			t.Helper()
			s.call(t, "GET", "/v1/sessions/current", bearerOf(token)).want(t, 200).into(t, &seen)
			return seen
		}
		if got, want := look(p.token), (tracked{start, start, start.Add(48 * time.Hour)}); got != want {
			t.Errorf("a fresh session reads %v, want %v", got, want)
		}
		later := start.Add(50 * time.Minute)
		c.set(later)
		token, refresh := s.refreshed(t, p.refresh, 200)
		if got, want := look(token), (tracked{start, later, later.Add(48 * time.Hour)}); got != want {
			t.Errorf("a refreshed session reads %v, want %v", got, want)
		}
		var show struct {
			UserLogins []struct {
				TokenID    string    `json:"token_id"`
				LoggedInAt time.Time `json:"logged_in_at"`
			} `json:"user_logins"`
		}
		s.call(t, "GET", "/user/logins/show", bearerOf(p.token)).want(t, 200).into(t, &show)
		if got := show.UserLogins[0]; got.TokenID != claimsOf(t, token)["jti"] || !got.LoggedInAt.Equal(start) {
			t.Errorf("the login reads %+v", got)
		}
		// No refresh goes beyond the end of the session.
		for hours := 40; hours <= 80; hours += 40 {
			c.set(start.Add(time.Duration(hours) * time.Hour))
			token, refresh = s.refreshed(t, refresh, 200)
		}
		if got := look(token); !got.ExpiresAt.Equal(start.Add(96 * time.Hour)) {
			t.Errorf("a session of at most 96 h lasts until %v", got.ExpiresAt)
		}
	})
}

// A login that was answered 2xx is in the history, from every route that signs in.
func TestEveryLoginIsInTheHistory(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		want := []string{s.currentID(t, p.token)}
		for i := range 3 {
			token := s.login(t, p)
			want = append(want, s.currentID(t, token), s.newSession(t, p.email, password).want(t, 201).text(t, "session.id"))
			if i == 0 {
				s.call(t, "DELETE", "/logout", bearerOf(token)).want(t, 200)
			}
		}
		slices.Reverse(want)
		var history sessionPage
		s.call(t, "GET", "/v1/logins", bearerOf(p.token)).want(t, 200).into(t, &history)
		var got []string
		for _, item := range history.Items {
			got = append(got, item.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("the history is\n%v, want\n%v", got, want)
		}
	})
}
