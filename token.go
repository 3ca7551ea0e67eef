package chathub

import (
	"errors"
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// bearerPrefix precedes a token among the offered subprotocols, which are what
// a browser's script can put into a handshake. Such a one is never selected.
const bearerPrefix = "chathub.bearer."

// requestToken returns the token of a handshake, empty where there is none. The
// first place that holds one decides: the Authorization header, the offered
// subprotocols, the cookie cfg.TokenCookie, the query parameter "token".
//
// An empty token counts as none (a cookie after logout), and so does an
// Authorization of another scheme, which may be meant for a proxy. A place with
// several different tokens is refused: somebody else may have put one there, as a
// neighbouring subdomain can with a cookie.
func requestToken(r *http.Request, cfg *Config) (token string, err *Error) {
	tokens := headerTokens(r)
	if len(tokens) == 0 {
		tokens = protocolTokens(r)
	}
	if len(tokens) == 0 && cfg.TokenCookie != "" {
		for _, c := range r.CookiesNamed(cfg.TokenCookie) {
			tokens = appendToken(tokens, c.Value)
		}
	}
	if len(tokens) == 0 && cfg.TokenQuery {
		for _, t := range r.URL.Query()["token"] {
			tokens = appendToken(tokens, t)
		}
	}
	switch len(tokens) {
	case 0:
		return "", nil
	case 1:
		if err := checkToken(tokens[0]); err != nil {
			return "", err
		}
		return tokens[0], nil
	default:
		return "", invalidToken(errors.New("several different tokens"))
	}
}

// headerTokens returns the bearer tokens of RFC 6750 section 2.1. The scheme's
// case does not matter (RFC 9110 section 11.1).
func headerTokens(r *http.Request) (tokens []string) {
	for _, line := range r.Header.Values("Authorization") {
		if scheme, token, _ := strings.Cut(line, " "); strings.EqualFold(scheme, "Bearer") {
			tokens = appendToken(tokens, strings.Trim(token, " "))
		}
	}
	return tokens
}

func protocolTokens(r *http.Request) (tokens []string) {
	for p := range offeredProtocols(r) {
		if token, ok := strings.CutPrefix(p, bearerPrefix); ok {
			tokens = appendToken(tokens, token)
		}
	}
	return tokens
}

func appendToken(tokens []string, token string) []string {
	if token == "" || slices.Contains(tokens, token) {
		return tokens
	}
	return append(tokens, token)
}

// checkToken refuses what no Authenticator has to read: everything over
// maxTokenBytes or not of visible ASCII. In particular, base64 decoding would
// skip line breaks.
func checkToken(token string) *Error {
	if len(token) > maxTokenBytes {
		return invalidToken(errors.New("token is over 8 KiB"))
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' {
			return invalidToken(errors.New("token has characters other than visible ASCII"))
		}
	}
	return nil
}

// invalidToken is what a client is told of any bad token. The cause, for the
// log, must not contain the token.
func invalidToken(cause error) *Error {
	return &Error{Code: CodeUnauthenticated, Message: "Invalid token", Err: cause}
}

// offersProtocol reports whether the client offers chathub.v1.
func offersProtocol(r *http.Request) bool {
	for p := range offeredProtocols(r) {
		if p == subprotocol {
			return true
		}
	}
	return false
}

// offeredProtocols yields the client's subprotocols, in its order of
// preference. They may come in one header or several (RFC 6455 section 11.3.4).
func offeredProtocols(r *http.Request) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
			for p := range strings.SplitSeq(line, ",") {
				if !yield(strings.Trim(p, " \t")) {
					return
				}
			}
		}
	}
}

// clientAddr returns the address that a request comes from: the peer's, or,
// where that is a trusted proxy, the right-most hop in X-Forwarded-For that is none.
// What stands left of that the client may have written itself. An entry that is
// no address ends the search at the hop that passed it on; where every hop is trusted,
// the left-most is the client.
//
// IPv4-mapped addresses are unmapped and zones dropped. The result is the zero
// Addr where the peer has no IP address, as on a Unix socket.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
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
