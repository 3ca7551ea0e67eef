package wire

import (
	"net/http"
	"strconv"
	"strings"
)

// deflateAnswer is the answer to every offer. A client must be able to do
// without context takeover (RFC 7692 section 7.1.1).
const deflateAnswer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// Negotiate returns the answer to the Sec-WebSocket-Extensions of a handshake.
// It accepts the first acceptable offer of permessage-deflate. It returns "" if
// there is none, or if the header is no list of extensions (RFC 6455 section
// 9.1).
func Negotiate(header http.Header) string {
	// The lines of a header are one list (RFC 9110 section 5.3).
	rest := strings.Join(header.Values("Sec-WebSocket-Extensions"), ",")
	answer := ""
	for rest != "" {
		e, after, ok := cutExtension(rest)
		if !ok {
			return ""
		}
		if answer == "" && e.name == "permessage-deflate" {
			answer = e.accept()
		}
		rest = after
	}
	return answer
}

// extension is an offer.
type extension struct {
	name   string
	params []param
}

type param struct {
	name, value string
	given       bool // it has a value
}

// accept returns the answer to an offer of permessage-deflate, or "" if it is
// not acceptable (RFC 7692 section 7): it has an unknown, repeated or wrong
// parameter, or a window smaller than ours.
func (e *extension) accept() string {
	answer := deflateAnswer
	seen := make(map[string]bool)
	for _, p := range e.params {
		if seen[p.name] {
			return ""
		}
		seen[p.name] = true
		switch p.name {
		case "server_no_context_takeover", "client_no_context_takeover":
			if p.given {
				return ""
			}
		case "client_max_window_bits": // any window of the client can be read
			if _, ok := p.bits(); p.given && !ok {
				return ""
			}
		case "server_max_window_bits":
			if n, ok := p.bits(); !ok || n < windowBits {
				return ""
			}
			answer += "; server_max_window_bits=" + strconv.Itoa(windowBits)
		default:
			return ""
		}
	}
	return answer
}

// bits returns the value of a parameter that is the size of a window (RFC 7692
// section 7.1.2).
func (p *param) bits() (n int, ok bool) {
	switch p.value {
	case "8", "9", "10", "11", "12", "13", "14", "15":
		n, _ = strconv.Atoi(p.value) // it is a number
	}
	return n, n > 0
}

// cutExtension cuts the first element off a list of extensions. An empty
// element has no name (RFC 9110 section 5.6.1).
func cutExtension(s string) (e extension, rest string, ok bool) {
	if e.name, s = cutToken(s); e.name == "" {
		rest, ok = strings.CutPrefix(s, ",")
		return e, rest, ok || s == ""
	}
	for {
		if s == "" {
			return e, "", true
		}
		sep := s[0]
		s = s[1:]
		if sep == ',' {
			return e, s, true
		}
		var p param
		if p.name, s = cutToken(s); sep != ';' || p.name == "" {
			return e, "", false
		}
		if s, p.given = strings.CutPrefix(s, "="); p.given {
			if p.value, s = cutValue(s); p.value == "" {
				return e, "", false
			}
		}
		e.params = append(e.params, p)
	}
}

// cutValue cuts off a token or a quoted token, and returns it without quotes.
func cutValue(s string) (value, rest string) {
	quoted, ok := strings.CutPrefix(strings.TrimLeft(s, blanks), `"`)
	if !ok {
		return cutToken(s)
	}
	value, rest, ok = strings.Cut(quoted, `"`)
	if t, left := cutToken(value); !ok || left != "" || t != value {
		return "", rest // the quotes must hold a token (RFC 6455 section 9.1)
	}
	return value, strings.TrimLeft(rest, blanks)
}

const blanks = " \t"

// cutToken cuts off a token (RFC 9110 section 5.6.2) and the blanks around it.
// The token is empty if there is none.
func cutToken(s string) (token, rest string) {
	s = strings.TrimLeft(s, blanks)
	n := 0
	for n < len(s) && isTokenByte(s[n]) {
		n++
	}
	return s[:n], strings.TrimLeft(s[n:], blanks)
}

func isTokenByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}
