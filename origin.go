package chathub

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// originAllowed reports whether a page may open this connection, as
// Config.Origins says. A page of the hub's own origin always may: the list names
// those that are let in besides.
//
// Host and X-Forwarded-Proto are taken as they come. A page cannot set them, and
// a program that forges them could as well leave out Origin, or forge that.
func originAllowed(r *http.Request, cfg *Config) bool {
	sent := r.Header.Values("Origin")
	switch {
	case len(sent) == 0:
		return !cfg.RequireOrigin
	case cfg.DangerouslyAllowAnyOrigin:
		return true
	case len(sent) > 1:
		return false
	}
	origin, err := canonicalOrigin(sent[0])
	if err != nil {
		return false
	}
	same := func(s string) bool {
		o, err := canonicalOrigin(s)
		return err == nil && o == origin
	}
	return same(requestScheme(r)+"://"+r.Host) || slices.ContainsFunc(cfg.Origins, same)
}

// requestScheme returns the scheme of the page that the request would be from
// if it were of the same origin.
func requestScheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	switch strings.ToLower(strings.TrimSpace(forwarded)) {
	case "https", "wss":
		return "https"
	}
	return "http"
}

// parseOrigin is canonicalOrigin with an error for who wrote the configuration.
func parseOrigin(s string) (string, error) {
	origin, err := canonicalOrigin(s)
	if err != nil {
		return "", fmt.Errorf("%q is not an origin: %w", s, err)
	}
	return origin, nil
}

// canonicalOrigin returns the form scheme://host:port of a web origin (RFC 6454
// section 4): lower case, always with the port. It takes only http and https, and
// nothing besides scheme, host and port.
func canonicalOrigin(s string) (string, error) {
	// Before case is folded: some characters outside of ASCII fold into it.
	for i := range len(s) {
		switch c := s[i]; {
		case c == '*':
			return "", errors.New("there are no wildcards, list every origin")
		case c <= ' ' || c == 0x7f:
			return "", errors.New("it has white space or control characters")
		case c > 0x7f:
			return "", errors.New("write the host as browsers send it (xn--...)")
		}
	}
	scheme, authority, ok := strings.Cut(strings.ToLower(s), "://")
	if !ok {
		return "", errors.New("write scheme://host[:port]")
	}
	port := "443"
	switch scheme {
	case "https":
	case "http":
		port = "80"
	default:
		return "", errors.New("the scheme must be http or https")
	}
	if strings.ContainsAny(authority, `/\?#@`) {
		return "", errors.New("leave out the path (even a final slash), query and user")
	}

	host := authority
	// The last colon is the port's, unless it is within the brackets of an IPv6 address.
	if colon := strings.LastIndexByte(authority, ':'); colon > strings.LastIndexByte(authority, ']') {
		n, err := strconv.ParseUint(authority[colon+1:], 10, 16)
		if err != nil || n == 0 {
			return "", errors.New("the port must be 1 to 65535")
		}
		host, port = authority[:colon], strconv.FormatUint(n, 10)
	}
	host, err := canonicalHost(host)
	if err != nil {
		return "", err
	}
	return scheme + "://" + host + ":" + port, nil
}

// canonicalHost checks a host name or address in lower-case ASCII.
func canonicalHost(host string) (string, error) {
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		addr, err := netip.ParseAddr(host[1 : len(host)-1])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", errors.New("only an IPv6 address, without a zone, goes into brackets")
		}
		return "[" + addr.String() + "]", nil
	}
	if host == "" || host[0] == '.' || strings.Contains(host, "..") {
		return "", errors.New("the host has an empty part")
	}
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return "", errors.New("the host has characters that a host cannot have")
		}
	}
	return host, nil
}
