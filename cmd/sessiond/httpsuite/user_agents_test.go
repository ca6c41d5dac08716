package httpsuite

import (
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

const (
	chrome  = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
	firefox = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"
)

func TestDevice_IsNamedAfterUserAgent(t *testing.T) {
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
		"":           "Unknown client",
	} {
		got := s.signIn(t, from(t, "127.0.0.1"), s.base, p, http.Header{"User-Agent": {agent}})
		if got["device"] != want || got["user_agent"] != agent {
			t.Errorf("%q: device %q and user agent %q, want device %q and the same user agent", agent, got["device"], got["user_agent"], want)
		}
	}
}

// The service cleans a User-Agent before it stores it, because Postgres refuses invalid UTF-8 and a
// page or a terminal that shows the User-Agent may obey control characters.
func TestUserAgent_IsStoredAsValidUTF8WithoutControlCharacters_ASVS_V1_3_3(t *testing.T) {
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
				t.Errorf("%.40q is stored as %.40q (%d bytes)", agent, kept, len(kept))
			}
			if len(agent) > 600 && len(kept) < 500 {
				t.Errorf("%.40q is truncated to %d bytes, want at least 500", agent, len(kept))
			}
			if device, _ := got["device"].(string); device == "" || len(device) > 200 || !utf8.ValidString(device) {
				t.Errorf("%.40q: device is %q", agent, got["device"])
			}
		}
		a := s.call(t, "GET", "/user/logins/show", bearer(p.token)).want(t, 200)
		if !utf8.Valid(a.body) {
			t.Error("the list of logins is not valid UTF-8")
		}
	})
}

// Somebody who does not know the password can send any User-Agent. The user must not see such a text.
func TestLoginHistory_ShowsNoTextOfFailedLogins(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		const lure = "URGENT account at risk - visit evil.example now"
		for _, agent := range []string{lure, chrome + " " + lure} {
			s.call(t, "POST", "/loginUser", credentials(p.username, "wrong password"), header("User-Agent", agent)).want(t, 403)
		}
		a := s.call(t, "GET", "/v1/logins", bearer(p.token)).want(t, 200)
		if strings.Contains(string(a.body), "evil") || !strings.Contains(string(a.body), `"device":"Unknown client"`) {
			t.Errorf("the history shows %s", a.body)
		}
	})
}
