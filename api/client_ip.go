package api

import (
	"context"
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
func clientIP(r *http.Request) string { return logEntryOf(r).ip() }

// clientAddr returns the client's IP address as the trusted proxies report it. The peer has sent the
// request, and header returns all values of a header of the request. The client may have forged
// everything to the left of the last address that is not a trusted proxy's. If a trusted proxy reports
// nothing that can be read, clientAddr returns the proxy's own address.
func (a *API) clientAddr(ctx context.Context, peer netip.Addr, header func(name string) []string) netip.Addr {
	ip := peer
	if !a.isTrusted(ip) {
		return ip
	}
	name, other := XForwardedFor, Forwarded
	if a.ForwardedHeader == Forwarded {
		name, other = other, name
	}
	// Each proxy appends the address of its client to the list.
	list := strings.Join(header(name), ",")
	if list == "" && strings.Join(header(other), ",") != "" {
		a.unreadable(ctx, ip, "")
	}
	for list != "" && a.isTrusted(ip) {
		var hop string
		if list, hop = cutLast(list, ','); hop == "" {
			continue
		}
		next, ok := a.parseHop(hop)
		if !ok {
			a.unreadable(ctx, ip, hop)
			break
		}
		ip = next
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

// cutLast cuts the last item off a list. A separator in double quotes belongs to an item. cutLast reads
// from the end, because a quote that the client left open must not swallow what the proxies appended.
func cutLast(list string, separator byte) (rest, item string) {
	i, quoted := len(list)-1, false
	for ; i >= 0 && (quoted || list[i] != separator); i-- {
		if list[i] == '"' && !isEscaped(list[:i]) {
			quoted = !quoted
		}
	}
	return list[:max(i, 0)], strings.Trim(list[i+1:], " \t")
}

// isEscaped reports whether the character after the text is escaped by a backslash.
func isEscaped(text string) bool {
	return (len(text)-len(strings.TrimRight(text, `\`)))%2 == 1
}

// parseHop reads the address that one proxy appended. It returns false if there is none or more than one.
func (a *API) parseHop(hop string) (netip.Addr, bool) {
	if a.ForwardedHeader != Forwarded {
		return parseNode(hop)
	}
	var nodes []string
	for hop != "" {
		var pair string
		hop, pair = cutLast(hop, ';')
		if name, value, _ := strings.Cut(pair, "="); strings.EqualFold(name, "for") {
			nodes = append(nodes, value)
		}
	}
	if len(nodes) != 1 {
		return netip.Addr{}, false
	}
	return parseNode(nodes[0])
}

// parseNode reads an IP address with or without a port, brackets and quotes (RFC 7239 section 6).
// Some proxies append such a port to X-Forwarded-For, too.
func parseNode(text string) (netip.Addr, bool) {
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
func (a *API) unreadable(ctx context.Context, proxy netip.Addr, text string) {
	a.Metrics.unreadableAddress()
	a.warnUnreadable.Do(func() {
		const most = 100 // bytes
		a.Log.WarnContext(ctx, "a trusted proxy reports no client address that can be read; its clients share its own address; check SESSIOND_FORWARDED",
			"proxy", proxy.String(), "header", a.ForwardedHeader, "text", text[:min(len(text), most)])
	})
}
