package api

import (
	"net"
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5/middleware"
)

// trustProxies reads the client's IP address from the header X-Forwarded-For of trusted proxies.
func (a *API) trustProxies(next http.Handler) http.Handler {
	if len(a.TrustedProxies) == 0 {
		return next
	}
	prefixes := make([]string, len(a.TrustedProxies))
	for i, p := range a.TrustedProxies {
		prefixes[i] = p.String()
	}
	return middleware.ClientIPFromXFF(prefixes...)(next)
}

// clientIP returns the client's IP address as the trusted proxies report it. If they report no
// address, clientIP returns the IP address from which the connection was opened.
func clientIP(r *http.Request) string {
	if ip := middleware.GetClientIP(r.Context()); ip != "" {
		return ip
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return ip.Unmap().WithZone("").String()
}
