package main

import (
	"fmt"
	"go/scanner"
	"go/token"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Widths in columns, where a tab counts 4.
const (
	maxComment  = 80
	maxTrailing = 100 // of a line that has code before the comment
	maxProse    = 110
	tabWidth    = 4
)

// columns returns the width of a line.
func columns(line string) int {
	n := 0
	for _, r := range line {
		if r == '\t' {
			n += tabWidth - n%tabWidth
		} else {
			n++
		}
	}
	return n
}

// A span is a part of a text, in bytes.
type span struct{ from, to int }

func checkGo(t tree, name string) []finding {
	return commentWidths(name, t[name], goComments(t[name]))
}

func checkScript(t tree, name string) []finding {
	return commentWidths(name, t[name], scriptComments(t[name]))
}

// goComments returns the comments of a Go file.
func goComments(src string) []span {
	file := token.NewFileSet().AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(file, []byte(src), nil, scanner.ScanComments)
	var spans []span
	for {
		pos, tok, text := s.Scan()
		switch tok {
		case token.EOF:
			return spans
		case token.COMMENT:
			from := file.Offset(pos)
			spans = append(spans, span{from, from + len(text)})
		}
	}
}

var (
	// A directive is read by a tool, which may need it in one line.
	directive = regexp.MustCompile(`^(//[a-z]+:|//nolint|// (biome|eslint)-|// @ts-|///)`)
	// The lines below it are the output of an example.
	output = regexp.MustCompile(`^// ?(Unordered )?[Oo]utput:`)
	// The marks before the text in a line of a comment.
	commentMark = regexp.MustCompile(`^\s*(//|/\*+|\*+(\s|$))?\s*([-*+]\s+|\d+[.)]\s+)?`)
)

// commentWidths finds lines of comments that are too wide.
func commentWidths(name, src string, comments []span) []finding {
	var found []finding
	printed := 0 // the last line of the output of an example
	line, counted := 1, 0
	for _, c := range comments {
		line += strings.Count(src[counted:c.from], "\n")
		counted = c.from

		begin := strings.LastIndexByte(src[:c.from], '\n') + 1
		before := src[begin:c.from]
		trailing := strings.TrimSpace(before) != ""
		text := src[c.from:c.to]
		if output.MatchString(text) || printed > 0 && line == printed+1 {
			printed = line
			continue
		}
		for i, l := range strings.Split(strings.TrimRight(text, "\r"), "\n") {
			limit, whole := maxComment, l
			if i == 0 {
				whole = before + l
				if trailing {
					limit = maxTrailing
				}
				if !trailing && directive.MatchString(l) {
					continue
				}
			}
			if n := columns(whole); n > limit && (trailing && i == 0 || !oneWord(l)) {
				what := "the comment is"
				if limit == maxTrailing {
					what = "the line with the comment is"
				}
				found = append(found, finding{name, line + i, fmt.Sprintf("%s %d columns wide, more than %d", what, n, limit)})
			}
		}
	}
	return found
}

// oneWord reports whether a line of a comment holds a single word, which cannot
// be wrapped.
func oneWord(line string) bool {
	rest := strings.TrimSpace(strings.TrimSuffix(line[len(commentMark.FindString(line)):], "*/"))
	return !strings.ContainsAny(rest, " \t")
}

// scriptComments returns the comments of a TypeScript or JavaScript file. It
// knows strings, templates and regular expressions as far as is needed to tell
// them from comments.
func scriptComments(src string) []span {
	var spans []span
	var templates []int // for each open ${, how many braces are open in it
	last := byte(0)     // the last byte of code that is not white space
	for i := 0; i < len(src); {
		rest := src[i:]
		switch c := src[i]; {
		case strings.HasPrefix(rest, "//"):
			if last == ':' && i > 0 && src[i-1] == ':' { // an address, in the text of JSX
				i += 2
				continue
			}
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			spans = append(spans, span{i, i + n})
			i += n
			continue
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				n = len(rest) - 4
			}
			spans = append(spans, span{i, i + n + 4})
			i += n + 4
			continue
		case c == '\'' || c == '"':
			i += quoted(rest, c)
		case c == '`':
			n, open := template(rest[1:])
			i += 1 + n
			if open {
				templates = append(templates, 0)
			}
		case c == '/' && regexpMayStart(last, src[:i]):
			i += expression(rest)
		case c == '{' && len(templates) > 0:
			templates[len(templates)-1]++
			i++
		case c == '}' && len(templates) > 0:
			i++
			if templates[len(templates)-1] > 0 {
				templates[len(templates)-1]--
				break
			}
			n, open := template(src[i:])
			i += n
			if !open {
				templates = templates[:len(templates)-1]
			}
		default:
			_, n := utf8.DecodeRuneInString(rest)
			i += n
		}
		if b := src[i-1]; b != ' ' && b != '\t' && b != '\n' {
			last = b
		}
	}
	return spans
}

// quoted returns the length of a string in quotes. The string ends with its
// line at the latest, so that an apostrophe in the text of JSX does not swallow
// the rest of the file.
func quoted(s string, quote byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case quote:
			return i + 1
		case '\n':
			return i
		}
	}
	return len(s)
}

// template returns the length of a part of a template literal. The part starts
// behind the first backtick or behind an expression. It ends with the template,
// or, if open, with the start of the next expression.
func template(s string) (n int, open bool) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '`':
			return i + 1, false
		case strings.HasPrefix(s[i:], "${"):
			return i + 2, true
		}
	}
	return len(s), false
}

var keyword = regexp.MustCompile(`\b(return|case|typeof|in|of|await)\s*$`)

// regexpMayStart reports whether a slash may begin a regular expression: after
// a value, it is a division.
func regexpMayStart(last byte, before string) bool {
	return last == 0 || strings.IndexByte("(,=:[!&|?{};+*%>~^-", last) >= 0 || keyword.MatchString(before)
}

// expression returns the length of a regular expression, or 1 if the slash does
// not begin one.
func expression(s string) int {
	class := false
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\n':
			return 1
		case s[i] == '\\':
			i++
		case s[i] == '[':
			class = true
		case s[i] == ']':
			class = false
		case s[i] == '/' && !class:
			return i + 1
		}
	}
	return 1
}
