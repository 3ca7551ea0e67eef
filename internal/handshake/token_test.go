package handshake

import (
	"encoding/base64"
	"net/http"
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
	err           string // part of the error
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

	{name: "encoded", protocols: []string{"chathub.v1, chathub.bearer64.YStiL2M9PQ"}, want: "a+b/c=="},
	{name: "encoded in first place", protocols: []string{"chathub.bearer64.YStiL2M9PQ", "chathub.v1"}, want: "a+b/c=="},
	{name: "encoded, every visible character", protocols: []string{"chathub.bearer64." + encode(visible)}, want: visible},
	{name: "encoded, both characters of the URL alphabet", protocols: []string{"chathub.bearer64.Pz8_Pn5-"}, want: "???>~~"},
	{name: "encoded, one byte", protocols: []string{"chathub.bearer64.YQ"}, want: "a"},
	{name: "encoded, two bytes", protocols: []string{"chathub.bearer64.YWI"}, want: "ab"},
	{name: "encoded, empty", protocols: []string{"chathub.v1, chathub.bearer64."}},
	{name: "encoded, in another case", protocols: []string{"Chathub.Bearer64.YQ"}},
	{name: "encoded, padded", protocols: []string{"chathub.bearer64.YQ=="}, err: "base64url"},
	{name: "encoded, the other alphabet", protocols: []string{"chathub.bearer64.Pz8/Pn5+"}, err: "base64url"},
	{name: "encoded, not canonical", protocols: []string{"chathub.bearer64.YR"}, err: "base64url"},
	{name: "encoded, cut short", protocols: []string{"chathub.bearer64.YWJjZ"}, err: "base64url"},
	{name: "encoded, line break", protocols: []string{"chathub.bearer64.Y\nQ"}, err: "base64url"},
	{name: "encoded, carriage return", protocols: []string{"chathub.bearer64.Y\rQ"}, err: "base64url"},
	{name: "encoded, only line breaks", protocols: []string{"chathub.bearer64.\n, chathub.v1"}, err: "base64url"},
	{name: "encoded, space", protocols: []string{"chathub.bearer64.Y Q"}, err: "base64url"},
	{name: "encoded, dots as of a JWT", protocols: []string{"chathub.bearer64.e30.e30.c2ln"}, err: "base64url"},
	{name: "encoded line break", protocols: []string{"chathub.bearer64." + encode("a\nb")}, err: "visible ASCII"},
	{name: "encoded space", protocols: []string{"chathub.bearer64." + encode("a b")}, err: "visible ASCII"},
	{name: "encoded NUL", protocols: []string{"chathub.bearer64." + encode("a\x00")}, err: "visible ASCII"},
	{name: "encoded, outside of ASCII", protocols: []string{"chathub.bearer64." + encode("é")}, err: "visible ASCII"},
	{name: "both forms of one token", protocols: []string{"chathub.bearer.a, chathub.bearer64.YQ"}, want: "a"},
	{name: "both forms, two tokens", protocols: []string{"chathub.bearer.b, chathub.bearer64.YQ"}, err: "several"},
	{name: "two encoded tokens", protocols: []string{"chathub.bearer64.YQ", "chathub.bearer64.YWI"}, err: "several"},
	{name: "a good token does not hide a bad one", protocols: []string{"chathub.bearer.a, chathub.bearer64.YQ=="}, err: "base64url"},
	{name: "header over a bad encoded token", authorization: []string{"Bearer h"}, protocols: []string{"chathub.bearer64.!"}, want: "h"},
	{name: "a bad encoded token does not leave the cookie", protocols: []string{"chathub.bearer64.YQ=="},
		cookies: []string{"session=c"}, err: "base64url"},
	{name: "empty encoded token leaves the cookie", protocols: []string{"chathub.bearer64."},
		cookies: []string{"session=c"}, want: "c"},

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

	{name: "longest", authorization: []string{"Bearer " + strings.Repeat("h", MaxToken)},
		want: strings.Repeat("h", MaxToken)},
	{name: "header too long", authorization: []string{"Bearer " + strings.Repeat("h", MaxToken+1)}, err: "8 KiB"},
	{name: "subprotocol too long", protocols: []string{"chathub.bearer." + strings.Repeat("p", MaxToken+1)}, err: "8 KiB"},
	{name: "longest encoded", protocols: []string{"chathub.bearer64." + encode(strings.Repeat("~", MaxToken))},
		want: strings.Repeat("~", MaxToken)},
	{name: "encoded too long", protocols: []string{"chathub.bearer64." + encode(strings.Repeat("p", MaxToken+1))}, err: "8 KiB"},
	{name: "encoded far too long", protocols: []string{"chathub.bearer64." + strings.Repeat("!", 1<<20)}, err: "8 KiB"},
	{name: "cookie too long", cookies: []string{"session=" + strings.Repeat("c", MaxToken+1)}, err: "8 KiB"},
	{name: "query too long", query: "?token=" + strings.Repeat("q", MaxToken+1), err: "8 KiB"},
}

// visible has all the characters that a token may have.
var visible = func() string {
	var b []byte
	for c := byte('!'); c <= '~'; c++ {
		b = append(b, c)
	}
	return string(b)
}()

func encode(token string) string { return base64.RawURLEncoding.EncodeToString([]byte(token)) }

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

func TestToken(t *testing.T) {
	both := TokenPlaces{Cookie: "session", Query: true}
	for _, tt := range tokenTests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Token(tt.request(), both)
			if got != tt.want {
				t.Errorf("got %.40q, want %.40q", got, tt.want)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got %v, want an error about %q", err, tt.err)
			}
		})
	}
}

func TestTokenPlaces(t *testing.T) {
	for _, tt := range tokenTests {
		if tt.authorization != nil || tt.protocols != nil {
			continue
		}
		if got, err := Token(tt.request(), TokenPlaces{}); got != "" || err != nil {
			t.Errorf("%s: got %.40q, %v without a place", tt.name, got, err)
		}
	}
}

func FuzzToken(f *testing.F) {
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
		got, err := Token(r, TokenPlaces{Cookie: "session", Query: true})
		if err != nil {
			if got != "" {
				t.Errorf("got %q besides %v", got, err)
			}
			return
		}
		if got != "" && CheckToken(got) != nil {
			t.Errorf("%q got through", got)
		}
		sent := authorization + "\n" + protocols + "\n" + cookies
		if got != "" && !strings.Contains(sent, got) && !strings.Contains(sent, "chathub.bearer64."+encode(got)) && !slices.Contains(r.URL.Query()["token"], got) {
			t.Errorf("%q was not sent", got)
		}
		// A token in a higher place decides, whatever is in the lower ones.
		tt.authorization = []string{"Bearer higher"}
		if got, err := Token(tt.request(), TokenPlaces{Cookie: "session", Query: true}); got != "higher" || err != nil {
			t.Errorf("got %q, %v instead of the Authorization header", got, err)
		}
	})
}

// FuzzEncodedToken checks that any good token can be encoded, and has no second
// encoded form.
func FuzzEncodedToken(f *testing.F) {
	for _, s := range []string{"a+b/c==", visible, "YQ", "YQ==", "YR", "Y\nQ", "é", ""} {
		f.Add(s)
	}
	token := func(encoded string) (string, error) {
		tt := tokenTest{protocols: []string{"chathub.v1", "chathub.bearer64." + encoded}}
		return Token(tt.request(), TokenPlaces{})
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := token(encode(s))
		if good := CheckToken(s) == nil; (err == nil) != good || good && got != s {
			t.Errorf("%q, encoded, is read as %q, %v", s, got, err)
		}
		if strings.ContainsAny(s, ", \t") { // several protocols, or trimmed
			return
		}
		if got, err := token(s); err == nil && encode(got) != s {
			t.Errorf("%q is a second form of %q", s, got)
		}
	})
}
