package handshake

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

var addrTests = []struct {
	name      string
	remote    string
	forwarded []string
	want      string // empty: no address
}{
	{"direct", "203.0.113.9:4711", nil, "203.0.113.9"},
	{"direct, IPv6", "[2001:db8::9]:4711", nil, "2001:db8::9"},
	{"direct, without a port", "203.0.113.9", nil, "203.0.113.9"},
	{"direct, mapped", "[::ffff:203.0.113.9]:4711", nil, "203.0.113.9"},
	{"direct, zone", "[fe80::1%eth0]:4711", nil, "fe80::1"},
	{"direct, forged header", "203.0.113.9:4711", []string{"198.51.100.1"}, "203.0.113.9"},
	{"Unix socket", "@", []string{"198.51.100.1"}, ""},
	{"nothing", "", nil, ""},

	{"proxy", "10.0.0.1:80", []string{"198.51.100.1"}, "198.51.100.1"},
	{"proxy, IPv6", "[fd00::1]:80", []string{"2001:db8::9"}, "2001:db8::9"},
	{"proxy, mapped", "[::ffff:10.0.0.1]:80", []string{"198.51.100.1"}, "198.51.100.1"},
	{"proxy with a zone", "[fd00::1%eth0]:80", []string{"198.51.100.1"}, "198.51.100.1"},
	{"proxy without the header", "10.0.0.1:80", nil, "10.0.0.1"},
	{"proxy with an empty header", "10.0.0.1:80", []string{""}, "10.0.0.1"},
	{"two proxies", "10.0.0.1:80", []string{"198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
	{"two proxies, two headers", "10.0.0.1:80", []string{"198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
	{"forged hop", "10.0.0.1:80", []string{"192.0.2.66, 198.51.100.1"}, "198.51.100.1"},
	{"forged hop in a header of its own", "10.0.0.1:80", []string{"192.0.2.66", "198.51.100.1"}, "198.51.100.1"},
	{"forged hop that looks like a proxy", "10.0.0.1:80", []string{"192.0.2.66, 10.0.0.3, 198.51.100.1"}, "198.51.100.1"},
	{"client within the trusted network", "10.0.0.1:80", []string{"10.0.0.7, 10.0.0.2"}, "10.0.0.7"},
	{"no spaces, tabs", "10.0.0.1:80", []string{"192.0.2.66,198.51.100.1\t,\t10.0.0.2"}, "198.51.100.1"},

	{"hop with a port", "10.0.0.1:80", []string{"198.51.100.1:50000"}, "198.51.100.1"},
	{"hop in brackets", "10.0.0.1:80", []string{"[2001:db8::9]"}, "2001:db8::9"},
	{"hop in brackets with a port", "10.0.0.1:80", []string{"[2001:db8::9]:50000"}, "2001:db8::9"},
	{"hop mapped", "10.0.0.1:80", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
	{"hop mapped, and trusted", "10.0.0.1:80", []string{"198.51.100.1, ::ffff:10.0.0.2"}, "198.51.100.1"},
	{"hop with a zone", "10.0.0.1:80", []string{"fe80::1%eth0"}, "fe80::1"},

	{"junk", "10.0.0.1:80", []string{"unknown"}, "10.0.0.1"},
	{"junk to the left", "10.0.0.1:80", []string{"junk, 198.51.100.1"}, "198.51.100.1"},
	{"junk hides what is left of it", "10.0.0.1:80", []string{"192.0.2.66, junk, 10.0.0.2"}, "10.0.0.2"},
	{"empty hop hides what is left of it", "10.0.0.1:80", []string{"192.0.2.66,,10.0.0.2"}, "10.0.0.2"},
	{"only commas", "10.0.0.1:80", []string{",,,"}, "10.0.0.1"},
	{"port out of range", "10.0.0.1:80", []string{"198.51.100.1:99999"}, "10.0.0.1"},
}

var trustedNets = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}

func addrRequest(remote string, forwarded ...string) *http.Request {
	return &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": forwarded}}
}

func TestClientAddr(t *testing.T) {
	for _, tt := range addrTests {
		t.Run(tt.name, func(t *testing.T) {
			got := ClientAddr(addrRequest(tt.remote, tt.forwarded...), trustedNets)
			var want netip.Addr
			if tt.want != "" {
				want = netip.MustParseAddr(tt.want)
			}
			if got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestClientAddrTrustsNobodyByDefault(t *testing.T) {
	got := ClientAddr(addrRequest("10.0.0.1:80", "198.51.100.1"), nil)
	if got != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("got %v, want the peer", got)
	}
}

func FuzzClientAddr(f *testing.F) {
	for _, tt := range addrTests {
		f.Add(tt.remote, strings.Join(tt.forwarded, ","))
	}
	trusts := func(a netip.Addr) bool {
		return trustedNets[0].Contains(a) || trustedNets[1].Contains(a)
	}
	f.Fuzz(func(t *testing.T, remote, forwarded string) {
		got := ClientAddr(addrRequest(remote, forwarded), trustedNets)
		if got.Zone() != "" || got.Is4In6() {
			t.Errorf("%v has a zone or is mapped", got)
		}
		if peer := ClientAddr(addrRequest(remote), trustedNets); !trusts(peer) && got != peer {
			t.Errorf("got %v from an untrusted peer %v", got, peer)
		}
		// What a client writes into the header a proxy appends to.
		client := netip.MustParseAddr("198.51.100.1")
		if got := ClientAddr(addrRequest("10.0.0.1:80", forwarded+", 198.51.100.1"), trustedNets); got != client {
			t.Errorf("a client passes for %v", got)
		}
		if got := ClientAddr(addrRequest("10.0.0.1:80", forwarded, "198.51.100.1, fd00::2"), trustedNets); got != client {
			t.Errorf("a client behind two proxies passes for %v", got)
		}
	})
}
