package chathub

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
)

type tokenTest struct {
	name          string
	authorization []string
	protocols     []string
	cookies       []string
	query         string
	want          string
	err           string // part of the cause; the client is told "Invalid token"
}

var tokenTests = []tokenTest{
	{name: "nothing"},
	{name: "header", authorization: []string{"Bearer h"}, want: "h"},
	{name: "header, scheme in lower case", authorization: []string{"bearer h"}, want: "h"},
	{name: "header, scheme in upper case", authorization: []string{"BEARER h"}, want: "h"},
	{name: "header, more spaces", authorization: []string{"Bearer   h "}, want: "h"},
	{name: "header of another scheme", authorization: []string{"Basic dTpw"}},
	{name: "header that begins like Bearer", authorization: []string{"Bearerer h"}},
	{name: "header without a scheme", authorization: []string{"h"}},
	{name: "header without a token", authorization: []string{"Bearer"}},
	{name: "header with an empty token", authorization: []string{"Bearer "}},
	{name: "header of another scheme besides", authorization: []string{"Basic dTpw", "Bearer h"}, want: "h"},
	{name: "two headers", authorization: []string{"Bearer h", "Bearer i"}, err: "several"},
	{name: "two headers, same token", authorization: []string{"Bearer h", "Bearer h"}, want: "h"},
	{name: "two tokens in a header", authorization: []string{"Bearer h, Bearer i"}, err: "visible ASCII"},
	{name: "header outside of ASCII", authorization: []string{"Bearer hé"}, err: "visible ASCII"},
	{name: "header with a control character", authorization: []string{"Bearer h\x01"}, err: "visible ASCII"},

	{name: "subprotocol", protocols: []string{"chathub.v1, chathub.bearer.p"}, want: "p"},
	{name: "subprotocol in first place", protocols: []string{"chathub.bearer.p,chathub.v1"}, want: "p"},
	{name: "subprotocol in a header of its own", protocols: []string{"chathub.v1", "chathub.bearer.p"}, want: "p"},
	{name: "subprotocol with tabs", protocols: []string{"chathub.v1,\tchathub.bearer.p\t"}, want: "p"},
	{name: "subprotocol of a JWT", protocols: []string{"chathub.bearer.e30.e30.c2ln"}, want: "e30.e30.c2ln"},
	{name: "subprotocol with an empty token", protocols: []string{"chathub.v1, chathub.bearer."}},
	{name: "subprotocol in another case", protocols: []string{"Chathub.Bearer.p"}},
	{name: "subprotocol of somebody else", protocols: []string{"graphql-ws, x.chathub.bearer.p"}},
	{name: "two subprotocols", protocols: []string{"chathub.bearer.p, chathub.bearer.q"}, err: "several"},
	{name: "subprotocol with a space", protocols: []string{"chathub.bearer.p q"}, err: "visible ASCII"},

	{name: "cookie", cookies: []string{"session=c"}, want: "c"},
	{name: "cookie among others", cookies: []string{"a=b; session=c; d=e"}, want: "c"},
	{name: "cookie of another name", cookies: []string{"Session=c; xsession=d"}},
	{name: "cookie after logout", cookies: []string{"session="}},
	{name: "cookie tossed by a neighbour", cookies: []string{"session=evil; session=c"}, err: "several"},
	{name: "cookie with a space", cookies: []string{`session="c d"`}, err: "visible ASCII"},

	{name: "query", query: "?token=q", want: "q"},
	{name: "query, empty", query: "?token="},
	{name: "query, another name", query: "?access_token=q"},
	{name: "query, twice", query: "?token=q&token=r", err: "several"},
	{name: "query, line break", query: "?token=q%0A", err: "visible ASCII"},

	{name: "header over the others", authorization: []string{"Bearer h"}, protocols: []string{"chathub.bearer.p"},
		cookies: []string{"session=c"}, query: "?token=q", want: "h"},
	{name: "subprotocol over cookie and query", protocols: []string{"chathub.bearer.p"},
		cookies: []string{"session=c"}, query: "?token=q", want: "p"},
	{name: "cookie over query", cookies: []string{"session=c"}, query: "?token=q", want: "c"},
	{name: "a proxy's header leaves the subprotocol", authorization: []string{"Basic dTpw"},
		protocols: []string{"chathub.bearer.p"}, want: "p"},
	{name: "empty cookie leaves the query", cookies: []string{"session="}, query: "?token=q", want: "q"},
	{name: "a bad header does not leave the cookie", authorization: []string{"Bearer h i"},
		cookies: []string{"session=c"}, err: "visible ASCII"},

	{name: "longest", authorization: []string{"Bearer " + strings.Repeat("h", maxTokenBytes)},
		want: strings.Repeat("h", maxTokenBytes)},
	{name: "header too long", authorization: []string{"Bearer " + strings.Repeat("h", maxTokenBytes+1)}, err: "8 KiB"},
	{name: "subprotocol too long", protocols: []string{"chathub.bearer." + strings.Repeat("p", maxTokenBytes+1)}, err: "8 KiB"},
	{name: "cookie too long", cookies: []string{"session=" + strings.Repeat("c", maxTokenBytes+1)}, err: "8 KiB"},
	{name: "query too long", query: "?token=" + strings.Repeat("q", maxTokenBytes+1), err: "8 KiB"},
}

// request returns a handshake with the headers of a test.
func (tt *tokenTest) request() *http.Request {
	u := &url.URL{Path: "/ws", RawQuery: strings.TrimPrefix(tt.query, "?")}
	h := http.Header{}
	for name, values := range map[string][]string{
		"Authorization":          tt.authorization,
		"Sec-Websocket-Protocol": tt.protocols,
		"Cookie":                 tt.cookies,
	} {
		if values != nil {
			h[name] = values
		}
	}
	return &http.Request{Method: "GET", URL: u, Header: h}
}

func TestRequestToken(t *testing.T) {
	cfg := &Config{TokenCookie: "session", TokenQuery: true}
	for _, tt := range tokenTests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := requestToken(tt.request(), cfg)
			if got != tt.want {
				t.Errorf("got %.40q, want %.40q", got, tt.want)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err != "" && (err == nil || err.Code != CodeUnauthenticated || err.Message != "Invalid token"):
				t.Errorf("got %v, want Invalid token", err)
			case tt.err != "" && !strings.Contains(err.Err.Error(), tt.err):
				t.Errorf("the cause is %v, want one about %q", err.Err, tt.err)
			}
		})
	}
}

func TestRequestTokenOnlyWhereTurnedOn(t *testing.T) {
	for _, tt := range tokenTests {
		if tt.authorization != nil || tt.protocols != nil {
			continue
		}
		if got, err := requestToken(tt.request(), &Config{}); got != "" || err != nil {
			t.Errorf("%s: got %.40q, %v with neither TokenCookie nor TokenQuery", tt.name, got, err)
		}
	}
}

func TestOffersProtocol(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  bool
	}{
		{"none", nil, false},
		{"empty", []string{""}, false},
		{"alone", []string{"chathub.v1"}, true},
		{"in a list", []string{"a, chathub.v1 ,b"}, true},
		{"without spaces", []string{"a,chathub.v1,b"}, true},
		{"in the second header", []string{"a", "b, chathub.v1"}, true},
		{"another version", []string{"chathub.v10, chathub.v2"}, false},
		{"another case", []string{"Chathub.V1"}, false},
		{"only a token", []string{"chathub.bearer.chathub.v1"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/ws", nil)
			if tt.lines != nil {
				r.Header["Sec-Websocket-Protocol"] = tt.lines
			}
			if got := offersProtocol(r); got != tt.want {
				t.Errorf("offers: %t, want %t", got, tt.want)
			}
		})
	}
}

func FuzzRequestToken(f *testing.F) {
	first := func(s []string) string {
		if len(s) == 0 {
			return ""
		}
		return s[0]
	}
	for _, tt := range tokenTests {
		f.Add(first(tt.authorization), first(tt.protocols), first(tt.cookies), strings.TrimPrefix(tt.query, "?"))
	}
	f.Fuzz(func(t *testing.T, authorization, protocols, cookies, query string) {
		tt := tokenTest{
			authorization: []string{authorization}, protocols: []string{protocols},
			cookies: []string{cookies}, query: query,
		}
		r := tt.request()
		got, err := requestToken(r, &Config{TokenCookie: "session", TokenQuery: true})
		if err != nil {
			if got != "" || err.Code != CodeUnauthenticated {
				t.Errorf("got %q besides %v", got, err)
			}
			return
		}
		if got != "" && checkToken(got) != nil {
			t.Errorf("%q got through", got)
		}
		if got != "" && !strings.Contains(authorization+"\n"+protocols+"\n"+cookies, got) && !slices.Contains(r.URL.Query()["token"], got) {
			t.Errorf("%q was not sent", got)
		}
		// What stands in a higher place decides, whatever is in the lower ones.
		tt.authorization = []string{"Bearer higher"}
		if got, err := requestToken(tt.request(), &Config{TokenCookie: "session", TokenQuery: true}); got != "higher" || err != nil {
			t.Errorf("got %q, %v instead of the Authorization header", got, err)
		}
	})
}

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
			got := clientAddr(addrRequest(tt.remote, tt.forwarded...), trustedNets)
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
	got := clientAddr(addrRequest("10.0.0.1:80", "198.51.100.1"), nil)
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
		got := clientAddr(addrRequest(remote, forwarded), trustedNets)
		if got.Zone() != "" || got.Is4In6() {
			t.Errorf("%v has a zone or is mapped", got)
		}
		if peer := clientAddr(addrRequest(remote), trustedNets); !trusts(peer) && got != peer {
			t.Errorf("got %v from an untrusted peer %v", got, peer)
		}
		// What a client writes into the header a proxy appends to.
		client := netip.MustParseAddr("198.51.100.1")
		if got := clientAddr(addrRequest("10.0.0.1:80", forwarded+", 198.51.100.1"), trustedNets); got != client {
			t.Errorf("a client passes for %v", got)
		}
		if got := clientAddr(addrRequest("10.0.0.1:80", forwarded, "198.51.100.1, fd00::2"), trustedNets); got != client {
			t.Errorf("a client behind two proxies passes for %v", got)
		}
	})
}
