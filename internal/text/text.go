// Package text has the rules for the strings of the protocol: which characters
// they may have, and how long they may be.
package text

import (
	"strconv"
	"unicode/utf8"
)

// Limits of strings, in bytes of UTF-8.
const (
	MaxRoom   = 128 // the name of a room
	MaxUser   = 128 // the id of a user
	MaxName   = 256 // the display name of a user
	MaxID     = 64  // the id of an event
	MaxTenant = 64  // the name of a tenant
	MaxType   = 64  // the name of an event
)

// Valid reports whether s is 1 to limit bytes of UTF-8 without control
// characters (Unicode category Cc).
func Valid(s string, limit int) bool {
	if s == "" || len(s) > limit || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if isControl(r) {
			return false
		}
	}
	return true
}

// isControl reports whether r is in the Unicode category Cc.
func isControl(r rune) bool { return r < 0x20 || 0x7f <= r && r <= 0x9f }

// Excerpt returns s for a line of a log: escaped, without quotes, and at most
// its first limit bytes.
func Excerpt(s string, limit int) string {
	more := ""
	if len(s) > limit {
		s, more = s[:limit], "..."
	}
	quoted := strconv.Quote(s)
	return quoted[1:len(quoted)-1] + more
}

// IsTrace reports whether s is a traceparent of version 00 (W3C Trace Context,
// section 3.2), such as
// 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.
func IsTrace(s string) bool {
	const zeros = "00000000000000000000000000000000"
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' || s[3:35] == zeros || s[36:52] == zeros[:16] {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if isHex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'; !isHex && i != 2 && i != 35 && i != 52 {
			return false
		}
	}
	return true
}

// ValidType reports whether s is an event name: [a-z0-9][a-z0-9:._-]{0,63}.
func ValidType(s string) bool {
	if s == "" || len(s) > MaxType {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		case i > 0 && (c == ':' || c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}
