package httpsuite

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// from returns a transport that opens its connections from this local IP address.
func from(t *testing.T, ip string) *http.Transport {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// signIn signs a user in with the given transport and headers. It returns the new session as the
// service shows it to the user.
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
	var response struct {
		AccessToken string `json:"access_token"`
		Session     map[string]any
	}
	if err := json.NewDecoder(resp.Body).Decode(&response); err != nil || resp.StatusCode != 201 {
		t.Fatalf("login: status %d, want 201: %v", resp.StatusCode, err)
	}
	var current map[string]any
	s.call(t, "GET", "/v1/sessions/current", bearer(response.AccessToken)).want(t, 200).into(t, &current)
	for _, name := range []string{"ip_address", "device", "user_agent"} {
		if current[name] != response.Session[name] {
			t.Errorf("%s is %v in the login response, but %v in the list of sessions", name, response.Session[name], current[name])
		}
	}
	return current
}

// A listener for both IPv4 and IPv6 sees an IPv4 address as ::ffff:127.0.0.1. The service must show
// this address as 127.0.0.1.
func TestClientAddress_IsSourceAddressOfConnectionWithoutProxy(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("NOT TESTED over IPv6: %v", err)
	}
	_ = l.Close()
	s := startServe(t, 1, "ADDR=:0") // listens on IPv4 and IPv6
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	s.base = "http://127.0.0.1:" + port
	p := s.register(t)
	for peer, base := range map[string]string{"127.0.0.1": s.base, "127.0.0.7": s.base, "::1": "http://[::1]:" + port} {
		got := s.signIn(t, from(t, peer), base, p, nil)
		if got["ip_address"] != peer {
			t.Errorf("a login from %s has the address %v", peer, got["ip_address"])
		}
	}
}

func TestClientAddress_IgnoresForwardedHeadersOfUntrustedPeer_ASVS_V4_1_3_V15_3_4(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		forged := http.Header{}
		for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "Fastly-Client-Ip"} {
			forged.Set(name, "203.0.113.9")
		}
		forged.Set("Forwarded", "for=203.0.113.9")
		for _, peer := range []string{"127.0.0.1", "127.0.0.7"} {
			if got := s.signIn(t, from(t, peer), s.base, p, forged); got["ip_address"] != peer {
				t.Errorf("a login from %s has the address %v", peer, got["ip_address"])
			}
		}
		// The login history must show the real address of failed logins too.
		s.newSession(t, p.username, "wrong passphrase", func(r *http.Request) { r.Header = forged.Clone(); r.Header.Set("Content-Type", "application/json") }).want(t, 401)
		var history struct {
			Items []struct {
				IP     string `json:"ip_address"`
				Status string `json:"status"`
			}
		}
		s.call(t, "GET", "/v1/logins?limit=1", bearer(p.token)).want(t, 200).into(t, &history)
		if got := history.Items[0]; got.Status != "failed" || got.IP != "127.0.0.1" {
			t.Errorf("the failed login is %+v, want failed from 127.0.0.1", got)
		}
	})
}

// Behind trusted proxies, the client's address is the rightmost address in X-Forwarded-For that is
// not a trusted proxy. The client may have forged every address to the left of it.
func TestClientAddress_IsRightmostUntrustedAddressInXForwardedFor(t *testing.T) {
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
	ran, bySettings := 0, map[string][]int{}
	for i, c := range cases {
		// Use only the test cases that can happen over TCP and name their trusted proxies.
		peerIsIP := c.RemoteAddr == "" || strings.HasPrefix(c.RemoteAddr, "9.9.9.9") || strings.HasPrefix(c.RemoteAddr, "10.0.0.5")
		if c.Strategy != "RightmostTrustedRangeStrategy" || c.WantErr || !peerIsIP ||
			strings.HasPrefix(c.Name, "Cloudflare") || c.Name == "Peer empty: walks header as normal" {
			continue
		}
		settings := "FORWARDED=" + strings.ToLower(c.Header) + " TRUSTED_PROXIES=" + strings.Join(append(c.TrustedRanges, "127.0.0.1/32"), ",")
		bySettings[settings] = append(bySettings[settings], i)
		ran++
	}
	if ran < 9 {
		t.Errorf("only %d test cases apply to this service, want at least 9", ran)
	}
	t.Logf("%d of %d test cases apply to this service", ran, len(cases))
	for settings, indices := range bySettings {
		s := startDev(t, t.TempDir(), strings.Fields(settings)...)
		p := s.register(t)
		for _, i := range indices {
			c := cases[i]
			// The service trusts 127.0.0.1 as a proxy, but not 127.0.0.9.
			peer, want := "127.0.0.1", c.Want
			if strings.HasPrefix(c.RemoteAddr, "9.9.9.9") {
				peer, want = "127.0.0.9", "127.0.0.9"
			}
			switch {
			case want == "" && len(c.Headers[c.Header]) == 0:
				want = peer
			case want == "": // the farthest proxy whose address can be read
				want = "2.2.2.2"
			}
			if got := s.signIn(t, from(t, peer), s.base, p, c.Headers); got["ip_address"] != want {
				t.Errorf("%s: the address is %v, want %s", c.Name, got["ip_address"], want)
			}
		}
	}
}

func TestClientAddress_IsReadFromEverySpellingOfXForwardedFor_ASVS_V4_1_3_V15_3_4(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		for _, c := range []struct {
			name, peer string
			xff        []string
			want       string
		}{
			{"IPv4", "127.0.0.1", []string{"203.0.113.9"}, "203.0.113.9"},
			{"IPv6 in a long spelling", "127.0.0.1", []string{"2001:0DB8:0:0:0:0:0:0001"}, "2001:db8::1"},
			{"IPv4 mapped to IPv6", "127.0.0.1", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
			{"IPv6 with a zone", "127.0.0.1", []string{"fe80::1%eth0"}, "fe80::1"},
			{"an entry that the client wrote", "127.0.0.1", []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9"},
			{"a header that the client wrote", "127.0.0.1", []string{"198.51.100.1", "203.0.113.9"}, "203.0.113.9"},
			{"two trusted proxies", "127.0.0.1", []string{"203.0.113.9, 10.1.2.3"}, "203.0.113.9"},
			{"only trusted proxies", "127.0.0.1", []string{"10.1.2.2, 10.1.2.3"}, "10.1.2.2"},
			{"IPv4 with a port, as Azure Application Gateway sends it", "127.0.0.1", []string{"203.0.113.7:51234"}, "203.0.113.7"},
			{"IPv6 in brackets", "127.0.0.1", []string{"[2001:db8::7]"}, "2001:db8::7"},
			{"IPv6 in brackets with a port", "127.0.0.1", []string{"198.51.100.1:1, [2001:db8::7]:443, 10.1.2.3:80"}, "2001:db8::7"},
			{"a quote that the client left open", "127.0.0.1", []string{`"198.51.100.1, 203.0.113.9`}, "203.0.113.9"},
			{"a quote that the client left open in a header of its own", "127.0.0.1", []string{`198.51.100.1\`, `"`, "203.0.113.9, 10.1.2.3"}, "203.0.113.9"},
			{"quotes", "127.0.0.1", []string{`"203.0.113.7:51234", "10.1.2.3"`}, "203.0.113.7"},
			{"a trusted proxy mapped to IPv6", "127.0.0.1", []string{"203.0.113.9, ::ffff:10.1.2.3"}, "203.0.113.9"},
			{"a malformed last entry", "127.0.0.1", []string{"203.0.113.9, nonsense"}, "127.0.0.1"},
			{"no header", "127.0.0.1", nil, "127.0.0.1"},
			{"empty headers", "127.0.0.1", []string{"", " , "}, "127.0.0.1"},
			{"an untrusted peer", "127.0.0.9", []string{"203.0.113.9"}, "127.0.0.9"},
		} {
			if got := s.signIn(t, from(t, c.peer), s.base, p, http.Header{"X-Forwarded-For": c.xff}); got["ip_address"] != c.want {
				t.Errorf("%s: the address is %v, want %s", c.name, got["ip_address"], c.want)
			}
		}
	}, "TRUSTED_PROXIES=127.0.0.1, 10.0.0.0/8")
}

func TestClientAddress_IsReadFromForwardedIfSet(t *testing.T) {
	s := startDev(t, t.TempDir(), "TRUSTED_PROXIES=127.0.0.1, 10.0.0.0/8", "FORWARDED=forwarded")
	p := s.register(t)
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"an element", "127.0.0.1", []string{"for=203.0.113.7"}, "203.0.113.7"},
		{"other parameters", "127.0.0.1", []string{`proto=https;For="[2001:db8:cafe::17]:4711";by=203.0.113.43`}, "2001:db8:cafe::17"},
		{"an element that the client wrote", "127.0.0.1", []string{`for=198.51.100.1, for=203.0.113.7;by="a,for=1.1.1.1", for="10.1.2.3:80"`}, "203.0.113.7"},
		{"a header that the client wrote", "127.0.0.1", []string{"for=198.51.100.1", "FOR=203.0.113.7"}, "203.0.113.7"},
		{"a quote that the client left open", "127.0.0.1", []string{`for="198.51.100.1, for=203.0.113.7`}, "203.0.113.7"},
		{"a host that the client chose", "127.0.0.1", []string{`for=203.0.113.7;host="a\",for=198.51.100.1;x=\""`}, "203.0.113.7"},
		{"two addresses in an element", "127.0.0.1", []string{`for=203.0.113.7;host=a;for=198.51.100.1`}, "127.0.0.1"},
		{"an unknown address", "127.0.0.1", []string{"for=203.0.113.7, for=unknown"}, "127.0.0.1"},
		{"an obfuscated address behind a proxy", "127.0.0.1", []string{"for=_hidden, for=10.1.2.3"}, "10.1.2.3"},
		{"an element without an address", "127.0.0.1", []string{"for=203.0.113.7, proto=https"}, "127.0.0.1"},
		{"an untrusted peer", "127.0.0.9", []string{"for=203.0.113.7"}, "127.0.0.9"},
		{"no header", "127.0.0.1", nil, "127.0.0.1"},
	} {
		header := http.Header{"Forwarded": c.forwarded, "X-Forwarded-For": {"192.0.2.1"}}
		if got := s.signIn(t, from(t, c.peer), s.base, p, header); got["ip_address"] != c.want {
			t.Errorf("%s: the address is %v, want %s", c.name, got["ip_address"], c.want)
		}
	}
}

// If the service cannot read what a proxy reports, all clients of the proxy share its address in the
// rate limits. The operator must learn that.
func TestClientAddress_UnreadableHeaderIsLoggedOnceAndCounted(t *testing.T) {
	for _, c := range []struct {
		name, settings string
		header         http.Header
		count          int
	}{
		{"a malformed address", "", http.Header{"X-Forwarded-For": {"203.0.113.7, nonsense"}}, 3},
		{"Forwarded instead of X-Forwarded-For", "", http.Header{"Forwarded": {"for=203.0.113.7"}}, 3},
		{"X-Forwarded-For instead of Forwarded", "FORWARDED=forwarded", http.Header{"X-Forwarded-For": {"203.0.113.7"}}, 3},
		{"an address that is hidden", "FORWARDED=forwarded", http.Header{"Forwarded": {"for=unknown"}}, 3},
		{"a readable address", "", http.Header{"X-Forwarded-For": {"nonsense, 203.0.113.7:1"}, "Forwarded": {"nonsense"}}, 0},
		{"no header", "", http.Header{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			metricsAddr := freeAddr(t)
			s := startServe(t, 1, strings.Fields("TRUSTED_PROXIES=127.0.0.1 METRICS_ADDR="+metricsAddr+" "+c.settings)...)
			for range 3 {
				s.call(t, "GET", "/livez", func(r *http.Request) { r.Header = c.header.Clone() }).want(t, 200)
			}
			warnings := strings.Count(s.logged(t), "a trusted proxy reports no client address")
			if warnings != min(c.count, 1) {
				t.Errorf("the log has %d warnings, want %d", warnings, min(c.count, 1))
			}
			metrics := string(callAt(t, "http://"+metricsAddr, "GET", "/metrics").want(t, 200).body)
			if want := fmt.Sprintf("\nsessiond_client_address_unreadable_total %d\n", c.count); !strings.Contains(metrics, want) {
				t.Errorf("the metrics lack %q", want)
			}
		})
	}
}
