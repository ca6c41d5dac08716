package api

import (
	"strings"
	"testing"
)

func TestDeviceName_HasOnlyWordsOfOurs(t *testing.T) {
	for userAgent, want := range map[string]string{
		"": "Unknown client",
		"URGENT account at risk - visit evil.example now":                                                                                         "Unknown client",
		"Mozilla/5.0 (Linux; Android 14; visit evil.example) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537":                                   "Chrome on Android",
		"curl/8.5.0 (visit evil.example)":                                                                                                         "curl",
		"Call+49-30-123456/1.0 (Windows NT 10.0)":                                                                                                 "Unknown client",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36":                   "Chrome on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1": "Safari on iOS",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0":                                                        "Firefox on Windows",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36":                   "Chrome on Android",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0":           "Edge on Windows",
		"curl/8.5.0": "curl",
	} {
		if got := deviceName(userAgent); got != want {
			t.Errorf("deviceName(%q) = %q, want %q", userAgent, got, want)
		}
	}
}

// Postgres refuses a NUL byte and invalid UTF-8. A terminal that shows the stored User-Agent would
// obey an escape sequence in it.
func TestCleanUserAgent_RemovesControlCharactersAndInvalidUTF8_ASVS_V1_3_3(t *testing.T) {
	got := cleanUserAgent("a\x00b\xff\u202ec\x1b[31m" + strings.Repeat("é", 600))
	if strings.ContainsAny(got, "\x00\u202e\x1b") || len(got) > maxUserAgent {
		t.Errorf("cleanUserAgent returned %q", got)
	}
}
