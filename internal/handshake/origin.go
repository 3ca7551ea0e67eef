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

// Check returns nil if a request may open a connection. Otherwise the error is
// an [*OriginError].
//
// Host and X-Forwarded-Proto are taken as they come. A page cannot set them,
// and a program that forges them could as well leave out Origin, or forge that.
func (o *Origins) Check(r *http.Request) error {
	sent := r.Header.Values("Origin")
	refuse := func(reason string) error {
		return &OriginError{Origin: strings.Join(sent, ", "), Own: ownOrigin(r), Reason: reason}
	}
	switch {
	case len(sent) == 0 && o.Required:
		return refuse("there is no Origin header")
	case len(sent) == 0 || o.Any:
		return nil
	case len(sent) > 1:
		return refuse("there are several Origin headers")
	case sent[0] == "null":
		return refuse("the page is a file, or in a sandboxed frame")
	}
	origin, err := canonicalOrigin(sent[0])
	if err != nil {
		return refuse("it is not a web origin: " + err.Error())
	}
	same := func(s string) bool {
		other, err := canonicalOrigin(s)
		return err == nil && other == origin
	}
	if same(ownOrigin(r)) || slices.ContainsFunc(o.Allowed, same) {
		return nil
	}
	return &OriginError{
		Origin:     sent[0],
		Own:        ownOrigin(r),
		Reason:     "it is neither the hub's own origin nor an allowed one",
		CanBeAdded: true,
		Hint:       hint(r, origin),
	}
}

// OriginError says why a page may not open a connection. What it has from the
// request is neither bounded nor escaped.
type OriginError struct {
	Origin     string // the Origin header, empty if there is none
	Own        string // the origin that the hub is served from, by the request
	Reason     string
	CanBeAdded bool   // whether Origin could be one of Origins.Allowed
	Hint       string // what may be wrong with a proxy; may be empty
}

// Error implements error.
func (e *OriginError) Error() string { return e.Reason }

// hint returns how a proxy has to be set up if the page of a canonical origin,
// which differs from the hub's own, is a page of the hub's.
func hint(r *http.Request, origin string) string {
	scheme, authority, _ := strings.Cut(origin, "://")
	own := withPort(r.Host, scheme)
	tlsEnds := scheme == "https" && requestScheme(r) == "http"
	forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Host"), ",")
	switch {
	case own == authority && tlsEnds:
		return "TLS seems to end at a proxy, which must say so: " + forwardScheme
	case own == authority:
		return "the page came over http, but the hub is served over https"
	}
	h := "if the page connects to the host that it is from, a proxy has changed Host: "
	if withPort(strings.TrimSpace(forwarded), scheme) == authority {
		h = "a proxy has changed Host: "
	}
	h += forwardHost
	if tlsEnds {
		h += "; and it must say that TLS ends there: " + forwardScheme
	}
	return h
}

// These are the lines of a proxy's configuration that pass on what page was
// asked for.
const (
	forwardHost   = "ProxyPreserveHost On (Apache), proxy_set_header Host $http_host (nginx)"
	forwardScheme = "RequestHeader set X-Forwarded-Proto expr=%{REQUEST_SCHEME} (Apache), " +
		"proxy_set_header X-Forwarded-Proto $scheme (nginx)"
)

// withPort returns host:port in canonical form for the Host of a request of a
// scheme, or "" if it is not valid.
func withPort(host, scheme string) string {
	origin, _ := canonicalOrigin(scheme + "://" + host)
	return strings.TrimPrefix(origin, scheme+"://")
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
