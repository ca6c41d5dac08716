package api

import (
	"cmp"
	"strings"
	"unicode"

	"github.com/mileusna/useragent"
)

// maxUserAgent is the maximum number of bytes of a User-Agent header that a session stores.
const maxUserAgent = 512

// cleanUserAgent makes a User-Agent safe to store and to show. The result is valid UTF-8, contains
// no control or text-direction characters, and has at most maxUserAgent bytes.
func cleanUserAgent(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, s)
	if len(s) > maxUserAgent {
		s = strings.ToValidUTF8(s[:maxUserAgent], "")
	}
	return strings.TrimSpace(s)
}

// maxDevice is the length, in bytes, of the longest device name. Names of real devices are shorter.
const maxDevice = 100

// deviceName turns a User-Agent into a name that people understand, such as "Chrome on macOS".
func deviceName(userAgent string) string {
	ua := useragent.Parse(userAgent)
	name := ua.Name
	if os := cmp.Or(ua.OS, ua.Device); os != "" {
		name += " on " + os
	}
	if ua.Name == "" || len(name) > maxDevice {
		return "Unknown device"
	}
	return name
}
