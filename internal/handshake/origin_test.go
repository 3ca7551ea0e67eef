package handshake

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

var originTests = []struct {
	in   string
	want string // empty: refused
	err  string // part of the error
}{
	{"https://example.com", "https://example.com:443", ""},
	{"http://example.com", "http://example.com:80", ""},
	{"https://example.com:443", "https://example.com:443", ""},
	{"http://example.com:443", "http://example.com:443", ""},
	{"http://localhost:3000", "http://localhost:3000", ""},
	{"HTTPS://App.Example.COM", "https://app.example.com:443", ""},
	{"https://example.com:08443", "https://example.com:8443", ""},
	{"https://my_host-1.example", "https://my_host-1.example:443", ""},
	{"https://example.com.", "https://example.com.:443", ""}, // another origin than without the dot
	{"https://xn--bcher-kva.example", "https://xn--bcher-kva.example:443", ""},
	{"http://127.0.0.1:8080", "http://127.0.0.1:8080", ""},
	{"http://[::1]", "http://[::1]:80", ""},
	{"http://[0:0:0:0:0:0:0:1]:8080", "http://[::1]:8080", ""},
	{"https://[2001:DB8::1]:443", "https://[2001:db8::1]:443", ""},

	{"", "", "scheme://host"},
	{"null", "", "scheme://host"},
	{"example.com", "", "scheme://host"},
	{"//example.com", "", "scheme://host"},
	{"https:example.com", "", "scheme://host"},
	{"*", "", "wildcards"},
	{"https://*", "", "wildcards"},
	{"https://*.example.com", "", "wildcards"},
	{"https://example.com:*", "", "wildcards"},
	{"wss://example.com", "", "scheme must be"},
	{"file://example.com", "", "scheme must be"},
	{"chrome-extension://abcdef", "", "scheme must be"},
	{"://example.com", "", "scheme must be"},
	{"https://example.com/", "", "path"},
	{"https://example.com/ws", "", "path"},
	{`https://example.com\`, "", "path"},
	{"https://example.com?q", "", "path"},
	{"https://example.com#", "", "path"},
	{"https://user@example.com", "", "user"},
	{"https://example.com@evil.example", "", "user"},
	{"https://user:pass@example.com", "", "user"},
	{"https://example.com:0", "", "port"},
	{"https://example.com:65536", "", "port"},
	{"https://example.com:", "", "port"},
	{"https://example.com:+80", "", "port"},
	{"https://example.com:https", "", "port"},
	{"https://", "", "empty part"},
	{"https://:443", "", "empty part"},
	{"https://.example.com", "", "empty part"},
	{"https://example..com", "", "empty part"},
	{"https://a:1:2", "", "host has characters"},
	{"https://::1", "", "host has characters"},
	{"https://exa%6dple.com", "", "host has characters"},
	{"https://example.com,https://b.example", "", "path"},
	{"https://a.example https://b.example", "", "white space"},
	{" https://example.com", "", "white space"},
	{"https://example.com\n", "", "white space"},
	{"https://example\x00.com", "", "white space"},
	{"https://bücher.example", "", "xn--"},
	{"https://example.\u212aom", "", "xn--"}, // the Kelvin sign, which is k in lower case
	{"http\u017f://example.com", "", "xn--"}, // the long s
	{"http://[::1", "", "host has characters"},
	{"http://[::1]x", "", "host has characters"},
	{"http://[127.0.0.1]", "", "brackets"},
	{"http://[fe80::1%eth0]", "", "brackets"},
	{"http://[]", "", "brackets"},
}

func TestParseOrigin(t *testing.T) {
	for _, tt := range originTests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseOrigin(tt.in)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got error %v, want one about %q", err, tt.err)
			}
		})
	}
}

func TestOriginsCheck(t *testing.T) {
	const app, demo = "https://app.example.com", "https://chat.example.com"
	listed := &Origins{Allowed: []string{app, "http://localhost:3000"}}
	none := &Origins{}
	required := &Origins{Required: true}
	anyOrigin := &Origins{Any: true}

	type headers = map[string][]string
	origin := func(o ...string) headers { return headers{"Origin": o} }
	forwarded := func(proto, o string) headers {
		return headers{"Origin": {o}, "X-Forwarded-Proto": {proto}}
	}
	tests := []struct {
		name    string
		origins *Origins
		host    string // default chat.example.com
		tls     bool
		headers headers
		want    bool
	}{
		{"listed", listed, "", true, origin(app), true},
		{"listed, default port spelled out", listed, "", true, origin(app + ":443"), true},
		{"listed, upper case", listed, "", true, origin("https://APP.example.com"), true},
		{"listed with a port", listed, "", true, origin("http://localhost:3000"), true},
		{"same origin besides a list", listed, "", true, origin(demo), true},
		{"other scheme", listed, "", true, origin("http://app.example.com"), false},
		{"other port", listed, "", true, origin(app + ":8443"), false},
		{"listed port left out", listed, "", true, origin("http://localhost"), false},
		{"subdomain", listed, "", true, origin("https://x.app.example.com"), false},
		{"parent domain", listed, "", true, origin("https://example.com"), false},
		{"look-alike before", listed, "", true, origin("https://evilapp.example.com"), false},
		{"look-alike after", listed, "", true, origin("https://app.example.com.evil.example"), false},
		{"look-alike as user", listed, "", true, origin("https://app.example.com@evil.example"), false},
		{"look-alike as path", listed, "", true, origin("https://evil.example/https://app.example.com"), false},
		{"look-alike with the dot", listed, "", true, origin("https://app.example.com."), false},
		{"look-alike that folds case", listed, "", true, origin("http\u017f://app.example.com"), false},
		{"null", listed, "", true, origin("null"), false},
		{"empty", listed, "", true, origin(""), false},
		{"several headers", listed, "", true, origin(app, app), false},
		{"several in one header", listed, "", true, origin(app + ", " + app), false},

		{"same origin, TLS", none, "", true, origin(demo), true},
		{"same origin, TLS, port", none, "chat.example.com:8443", true, origin(demo + ":8443"), true},
		{"same origin, TLS, default port in Host", none, "chat.example.com:443", true, origin(demo), true},
		{"same origin, upper case in Host", none, "Chat.Example.com", true, origin(demo), true},
		{"same origin, plain", none, "", false, origin("http://chat.example.com"), true},
		{"same origin, plain, port", none, "localhost:8080", false, origin("http://localhost:8080"), true},
		{"same origin, IPv6", none, "[::1]:8080", false, origin("http://[::1]:8080"), true},
		{"same origin, forwarded https", none, "", false, forwarded("https", demo), true},
		{"same origin, forwarded wss", none, "", false, forwarded("WSS", demo), true},
		{"same origin, forwarded twice", none, "", false, forwarded("https , http", demo), true},
		{"same host, forwarded http", none, "", false, forwarded("http", demo), false},
		{"same host, forwarded http at first", none, "", false, forwarded("http,https", demo), false},
		{"same host, plain page on TLS", none, "", true, origin("http://chat.example.com"), false},
		{"same host, plain page on TLS, forwarded http", none, "", true, forwarded("http", "http://chat.example.com"), false},
		{"same host, TLS page on plain", none, "", false, origin(demo), false},
		{"same host, other port", none, "", true, origin(demo + ":8443"), false},
		{"other host", none, "", true, origin(app), false},
		{"null, no list", none, "", true, origin("null"), false},
		{"no Host, no origin's host", none, " ", false, origin("http://"), false},

		{"no Origin", none, "", true, nil, true},
		{"no Origin, list", listed, "", true, nil, true},
		{"no Origin, required", required, "", true, nil, false},
		{"same origin, required", required, "", true, origin(demo), true},
		{"other origin, required", required, "", true, origin(app), false},

		{"any", anyOrigin, "", true, origin("https://evil.example"), true},
		{"any: null", anyOrigin, "", true, origin("null"), true},
		{"any, but required", &Origins{Any: true, Required: true}, "", true, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/ws", nil)
			r.Host = "chat.example.com"
			if tt.host != "" {
				r.Host = strings.TrimSpace(tt.host)
			}
			if tt.tls {
				r.TLS = &tls.ConnectionState{}
			}
			for name, values := range tt.headers {
				r.Header[name] = values
			}
			if err := tt.origins.Check(r); (err == nil) != tt.want {
				t.Errorf("got %v; want it allowed: %t", err, tt.want)
			}
		})
	}
}

func FuzzParseOrigin(f *testing.F) {
	for _, tt := range originTests {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseOrigin(s)
		if (got == "") != (err != nil) {
			t.Fatalf("got %q and error %v", got, err)
		}
		if err != nil {
			return
		}
		if again, err := ParseOrigin(got); again != got || err != nil {
			t.Errorf("%q is not canonical: %q, %v", got, again, err)
		}
		u, err := url.Parse(got)
		if err != nil {
			t.Fatalf("%q is not a URL: %v", got, err)
		}
		if u.Scheme+"://"+u.Host != got || u.Port() == "" {
			t.Errorf("%q is more or less than scheme, host and port", got)
		}
		// Other readers of s as a URL must see the same host.
		if u2, err := url.Parse(s); err != nil || strings.ToLower(u2.Scheme) != u.Scheme {
			t.Errorf("%q is read as %v, %v elsewhere", s, u2, err)
		} else if !strings.HasPrefix(u.Host, "[") && !strings.EqualFold(u2.Hostname(), u.Hostname()) {
			t.Errorf("%q has the host %q elsewhere, here %q", s, u2.Hostname(), u.Hostname())
		}
		// A page of that origin is let in if it is listed, and only then.
		r := &http.Request{Host: "chathub.invalid", Header: http.Header{"Origin": {s}}}
		listed, other := Origins{Allowed: []string{got}}, Origins{Allowed: []string{"https://listed.invalid"}}
		if listed.Check(r) != nil || other.Check(r) == nil {
			if got != "http://chathub.invalid:80" && got != "https://listed.invalid:443" {
				t.Errorf("%q is not let in exactly if it is listed", s)
			}
		}
	})
}
