package handshake

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientAddr returns the address that a request comes from. That is the
// sender's address or, if the sender is a trusted proxy, the right-most address
// in X-Forwarded-For that is not one. The client may have written anything to
// the left of it.
//
// An entry that is not an address ends the search, and the proxy that passed it
// on counts as the client. If every entry is trusted, the left-most is the
// client.
//
// IPv4-mapped addresses are unmapped and zones are dropped. The result is the
// zero Addr if the sender has no IP address, as on a Unix socket.
func ClientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	isTrusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	addr := parseHop(r.RemoteAddr)
	hops := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	for hops != "" && isTrusted(addr) {
		comma := strings.LastIndexByte(hops, ',')
		hop := parseHop(hops[comma+1:])
		if !hop.IsValid() {
			break
		}
		addr, hops = hop, hops[:max(comma, 0)]
	}
	return addr
}

// parseHop reads an IP address with or without a port and brackets.
func parseHop(s string) netip.Addr {
	s = strings.TrimSpace(s)
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		withPort, _ := netip.ParseAddrPort(s)
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone("")
}
