package api

import (
	"net"
	"net/netip"
	"strings"
)

func (a *API) getDevMail(*request) (reply, error) { return ok(a.Mailbox()), nil }

// isLoopbackHost reports whether a Host header names this machine. A page of another site could have its own
// name lead to 127.0.0.1 (DNS rebinding), and would otherwise read the mailbox in a browser of this machine.
func isLoopbackHost(header string) bool {
	host, _, err := net.SplitHostPort(header)
	if err != nil {
		host = strings.Trim(header, "[]")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}
