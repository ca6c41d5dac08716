package api

import (
	"cmp"
	"net"
	"net/netip"
	"strings"
	"unicode"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/mileusna/useragent"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// maxUserAgent bounds what is kept of a User-Agent, in bytes.
const maxUserAgent = 512

// client tells where a request comes from.
func client(q *request) issuer.Client {
	agent := cleanUserAgent(q.UserAgent())
	return issuer.Client{IP: clientIP(q), UserAgent: agent, Device: device(agent)}
}

func origin(q *request) identity.Origin {
	c := client(q)
	return identity.Origin{
		IP: c.IP, UserAgent: c.UserAgent, Device: c.Device, DeviceToken: deviceToken(q),
		Session: q.claims.SessionID, Quota: &q.quota,
	}
}

// clientIP is the address that the trusted proxies report, or the peer's when
// there are none or they make no sense.
func clientIP(q *request) string {
	if ip := middleware.GetClientIP(q.Context()); ip != "" {
		return ip
	}
	host, _, err := net.SplitHostPort(q.RemoteAddr)
	if err != nil {
		host = q.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return ip.Unmap().WithZone("").String()
}

// cleanUserAgent makes a header fit to be stored and shown: valid UTF-8, without
// control or direction characters, and short.
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

// maxDevice is more than any name of a device has, in bytes.
const maxDevice = 100

// device is a User-Agent as people say it: "Chrome on macOS".
func device(agent string) string {
	ua := useragent.Parse(agent)
	name := ua.Name
	if os := cmp.Or(ua.OS, ua.Device); os != "" {
		name += " on " + os
	}
	if ua.Name == "" || len(name) > maxDevice {
		return "Unknown device"
	}
	return name
}
