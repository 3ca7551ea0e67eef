package text

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Name returns a display name as it may be sent to everyone: at most [MaxName]
// bytes of UTF-8 on one line, which cannot change how the text around it is
// shown. It
//   - replaces what is not UTF-8 by U+FFFD, and line breaks and tabs by spaces;
//   - drops other control characters and explicit bidirectional formatting;
//   - trims white space;
//   - cuts what is too long where a character ends.
//
// The result is empty if nothing visible is left. Name(Name(s)) == Name(s).
func Name(s string) string {
	s = strings.TrimSpace(strings.Map(nameRune, strings.ToValidUTF8(s, "\uFFFD")))
	s = strings.TrimSpace(cut(s, MaxName))
	if !strings.ContainsFunc(s, isVisible) {
		return ""
	}
	return s
}

// nameRune returns the rune of a name to put in the place of r, or -1 for none.
func nameRune(r rune) rune {
	switch {
	case '\t' <= r && r <= '\r', r == '\u0085', r == '\u2028', r == '\u2029':
		return ' ' // for tabs and line breaks
	case '\u202a' <= r && r <= '\u202e', '\u2066' <= r && r <= '\u2069':
		return -1 // for embeddings, overrides and isolates
	case isControl(r):
		return -1
	}
	return r
}

func isVisible(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S)
}

// cut returns the longest beginning of s, up to limit bytes, that ends where a
// character does, or at least a rune if the first character alone is too long.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for i := limit; i > 0; i-- {
		if isBoundary(s, i) {
			return s[:i]
		}
	}
	for !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// isBoundary reports whether a character that a person sees ends before s[i].
// It knows the common grapheme clusters of UAX #29: combining marks, emoji
// sequences, flags and Hangul.
func isBoundary(s string, i int) bool {
	if !utf8.RuneStart(s[i]) {
		return false
	}
	before, _ := utf8.DecodeLastRuneInString(s[:i])
	after, _ := utf8.DecodeRuneInString(s[i:])
	switch {
	case extends(after), before == joiner:
		return false
	case isRegional(after):
		// Two make a flag, so a boundary has an even number before it.
		n := 0
		for j := i; j > 0; n++ {
			r, size := utf8.DecodeLastRuneInString(s[:j])
			if !isRegional(r) {
				break
			}
			j -= size
		}
		return n%2 == 0
	}
	return true
}

// joiner makes one emoji of the two around it.
const joiner = '\u200d'

// extends reports whether r belongs to the character before it.
func extends(r rune) bool {
	const nonJoiner = '\u200c'
	switch {
	case r == joiner, r == nonJoiner, unicode.Is(unicode.M, r):
		return true
	case '\U0001f3fb' <= r && r <= '\U0001f3ff': // skin tones
		return true
	case '\U000e0020' <= r && r <= '\U000e007f': // tags, as for Wales
		return true
	case '\u1160' <= r && r <= '\u11ff': // Hangul vowels and final consonants
		return true
	}
	return false
}

// isRegional reports whether r is one of the regional indicators, two of which
// make a flag.
func isRegional(r rune) bool { return '\U0001f1e6' <= r && r <= '\U0001f1ff' }
