package handshake

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Origins says which web pages may open a connection. A page of the hub's own
// origin always may.
type Origins struct {
	Allowed  []string // the other origins whose pages may
	Any      bool     // every page may
	Required bool     // a request without an Origin header is refused
}

// Check returns nil if a request may open a connection, and why it may not
// otherwise.
//
// Host and X-Forwarded-Proto are taken as they come. A page cannot set them,
// and a program that forges them could as well leave out Origin, or forge that.
func (o *Origins) Check(r *http.Request) error {
	sent := r.Header.Values("Origin")
	switch {
	case len(sent) == 0 && o.Required:
		return errors.New("no Origin header")
	case len(sent) == 0 || o.Any:
		return nil
	case len(sent) > 1:
		return errors.New("several Origin headers")
	}
	origin, err := ParseOrigin(sent[0])
	if err != nil {
		return err
	}
	same := func(s string) bool {
		other, err := canonicalOrigin(s)
		return err == nil && other == origin
	}
	if same(ownOrigin(r)) || slices.ContainsFunc(o.Allowed, same) {
		return nil
	}
	return errors.New("neither the hub's own origin nor an allowed one")
}

// ownOrigin returns the origin that the hub is served from, as far as the
// request tells.
func ownOrigin(r *http.Request) string { return requestScheme(r) + "://" + r.Host }

// requestScheme returns the scheme of a page of the hub's own origin.
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

// ParseOrigin returns the form scheme://host:port of a web origin (RFC 6454
// section 4): in lower case, and always with the port. It takes only http and
// https, and nothing besides scheme, host and port. Its errors are for the
// author of a configuration.
func ParseOrigin(s string) (string, error) {
	origin, err := canonicalOrigin(s)
	if err != nil {
		return "", fmt.Errorf("%q is not an origin: %w", s, err)
	}
	return origin, nil
}

// canonicalOrigin is [ParseOrigin] with errors that do not quote s.
func canonicalOrigin(s string) (string, error) {
	// This comes before folding case, since some characters outside of ASCII
	// fold into it.
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
	// The last colon precedes the port, unless it is within the brackets of an
	// IPv6 address.
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
