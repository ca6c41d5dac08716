package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// The header in which trusted proxies report the addresses of their clients.
const (
	XForwardedFor = "X-Forwarded-For"
	Forwarded     = "Forwarded" // RFC 7239
)

// clientIP returns the client's IP address, which [API.observe] has found out.
func clientIP(r *http.Request) string {
	if ip := logEntryOf(r).clientIP; ip.IsValid() {
		return ip.String()
	}
	return ""
}

// clientAddr returns the client's IP address as the trusted proxies report it. The client may have
// forged everything to the left of the first address that is not a trusted proxy's. If a trusted
// proxy reports nothing that can be read, clientAddr returns the proxy's own address.
func (a *API) clientAddr(r *http.Request) netip.Addr {
	ip := peerAddr(r)
	if !a.isTrusted(ip) {
		return ip
	}
	hops := a.hops(r.Header)
	if len(hops) == 0 && a.otherHeader(r.Header) {
		a.unreadable(r, ip, "")
	}
	for _, hop := range slices.Backward(hops) {
		next, ok := parseNode(hop)
		if !ok {
			a.unreadable(r, ip, hop)
			break
		}
		if ip = next; !a.isTrusted(ip) {
			break
		}
	}
	return ip
}

// peerAddr returns the IP address from which the connection was opened.
func peerAddr(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

func (a *API) isTrusted(ip netip.Addr) bool {
	return slices.ContainsFunc(a.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// hops returns the addresses that the proxies reported, in their order. Each proxy appends the
// address from which it got the request.
func (a *API) hops(h http.Header) []string {
	if a.ForwardedHeader != Forwarded {
		return splitUnquoted(strings.Join(h.Values(XForwardedFor), ","), ',')
	}
	hops := splitUnquoted(strings.Join(h.Values(Forwarded), ","), ',')
	for i, hop := range hops {
		hops[i] = ""
		for _, pair := range splitUnquoted(hop, ';') {
			if name, value, _ := strings.Cut(pair, "="); strings.EqualFold(strings.TrimSpace(name), "for") {
				hops[i] = value
			}
		}
	}
	return hops
}

// otherHeader reports whether the request has the header that FORWARDED does not name.
func (a *API) otherHeader(h http.Header) bool {
	if a.ForwardedHeader == Forwarded {
		return h.Get(XForwardedFor) != ""
	}
	return h.Get(Forwarded) != ""
}

// splitUnquoted splits a list at the separator, but not within double quotes. It drops empty items
// (RFC 9110 section 5.6.1).
func splitUnquoted(list string, separator byte) (items []string) {
	start, quoted := 0, false
	for i := 0; i <= len(list); i++ {
		switch {
		case i == len(list) || list[i] == separator && !quoted:
			if item := strings.Trim(list[start:i], " \t"); item != "" {
				items = append(items, item)
			}
			start = i + 1
		case list[i] == '"':
			quoted = !quoted
		case list[i] == '\\' && quoted:
			i++
		}
	}
	return items
}

// parseNode reads an IP address with or without a port, brackets and quotes (RFC 7239 section 6).
// Some proxies append such a port to X-Forwarded-For, too.
func parseNode(text string) (netip.Addr, bool) {
	text = strings.Trim(text, " \t")
	if len(text) > 1 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	if inner, port, found := strings.Cut(text, "]"); found && strings.HasPrefix(inner, "[") && (port == "" || port[0] == ':') {
		text = inner[1:]
	} else if host, _, found := strings.Cut(text, ":"); found && strings.Count(text, ":") == 1 {
		text = host
	}
	ip, err := netip.ParseAddr(text)
	return ip.Unmap().WithZone(""), err == nil && !ip.IsUnspecified()
}

// unreadable tells the operator that the clients of a proxy share the proxy's address, because the
// rate limits and the login history then do not tell them apart. The log says so once.
func (a *API) unreadable(r *http.Request, proxy netip.Addr, text string) {
	a.Metrics.unreadableAddress()
	a.warnUnreadable.Do(func() {
		const most = 100 // bytes
		a.Log.WarnContext(r.Context(), "a trusted proxy reports no client address that can be read; its clients share its own address; check SESSIOND_FORWARDED",
			"proxy", proxy.String(), "header", a.ForwardedHeader, "text", text[:min(len(text), most)])
	})
}
