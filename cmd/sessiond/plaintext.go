package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// checkEncrypted refuses an unencrypted connection to anything but a loopback or
// private address, unless the operator allows it. The error names the setting
// and the host, never the whole URL.
func (s *settings) checkEncrypted(ctx context.Context, setting, rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		// url.Error would quote the URL with its password.
		return fmt.Errorf("%s%s: not a URL", envPrefix, setting)
	}
	if s.AllowPlaintext || isEncrypted(u) {
		return nil
	}
	for hostport := range strings.SplitSeq(u.Host, ",") {
		host := hostport
		if h, _, err := net.SplitHostPort(hostport); err == nil {
			host = h
		}
		if host == "" || strings.HasPrefix(host, "/") {
			continue // a socket of this machine
		}
		if !isPrivate(ctx, strings.Trim(host, "[]")) {
			return fmt.Errorf("%s%s: the connection to %s is not encrypted and the host is neither loopback nor private; "+
				"use %s, or set %sALLOW_PLAINTEXT=true", envPrefix, setting, host, encryptedForm(u), envPrefix)
		}
	}
	return nil
}

func isEncrypted(u *url.URL) bool {
	if strings.HasPrefix(u.Scheme, "postgres") {
		mode := u.Query().Get("sslmode")
		// Without a mode, verify-full is what the store asks for.
		return mode == "" || mode == "require" || mode == "verify-ca" || mode == "verify-full"
	}
	return strings.HasPrefix(u.Scheme, "rediss")
}

func encryptedForm(u *url.URL) string {
	if strings.HasPrefix(u.Scheme, "postgres") {
		return "sslmode=verify-full"
	}
	return "rediss://"
}

// isPrivate tells whether every address of a host is loopback, link-local or private.
func isPrivate(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(ips) == 0 {
		return false
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); !isPrivateIP(ip) {
			return false
		}
	}
	return true
}

func isPrivateIP(ip netip.Addr) bool {
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}
