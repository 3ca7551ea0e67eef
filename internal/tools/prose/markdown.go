package main

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// kind is the kind of block that a line of Markdown belongs to.
type kind int

const (
	blank kind = iota
	text
	heading
	table
	code
	html
	definition // of a link's target
)

var (
	fence         = regexp.MustCompile("^\\s*(>\\s*)?(```+|~~~+)")
	headingLine   = regexp.MustCompile(`^ {0,3}#{1,6}(\s+(.*?))?(\s+#+)?\s*$`)
	underline     = regexp.MustCompile(`^ {0,3}(=+|-+)\s*$`)
	item          = regexp.MustCompile(`^\s*(>\s*)*([-*+]|\d{1,9}[.)])\s+`)
	delimiterRow  = regexp.MustCompile(`^\s*\|?\s*:?-+:?\s*(\|\s*:?-*:?\s*)+$`)
	htmlLine      = regexp.MustCompile(`^\s*</?[a-zA-Z][a-zA-Z0-9]*(\s|/?>|$)`)
	definedTarget = regexp.MustCompile(`^ {0,3}\[[^\]]+\]:\s*(\S+)`)
	prefix        = regexp.MustCompile(`^\s*(>\s*)*(([-*+]|\d{1,9}[.)])\s+)?(\[[ x]\]\s+)?`)
)

// A document is the lines of a Markdown file, each with its kind.
type document struct {
	lines []string
	kinds []kind
}

func parse(src string) document {
	d := document{lines: strings.Split(src, "\n")}
	d.kinds = make([]kind, len(d.lines))
	inList, fenced, comment := false, "", false
	for i, l := range d.lines {
		before := blank
		if i > 0 {
			before = d.kinds[i-1]
		}
		trimmed := strings.TrimSpace(l)
		switch {
		case fenced != "":
			d.kinds[i] = code
			if end := strings.TrimLeft(trimmed, "> "); strings.HasPrefix(end, fenced) && strings.Trim(end, fenced[:1]) == "" {
				fenced = ""
			}
		case comment:
			d.kinds[i] = html
			comment = !strings.Contains(l, "-->")
		case trimmed == "":
			d.kinds[i] = blank
		case fence.MatchString(l):
			d.kinds[i] = code
			fenced = fence.FindStringSubmatch(l)[2]
		case strings.HasPrefix(trimmed, "<!--"):
			d.kinds[i] = html
			comment = !strings.Contains(l, "-->")
		case before == html, htmlLine.MatchString(l):
			d.kinds[i] = html // up to a blank line
		case !inList && before != text && (strings.HasPrefix(l, "    ") || strings.HasPrefix(l, "\t")):
			d.kinds[i] = code
		case headingLine.MatchString(l):
			d.kinds[i], inList = heading, false
		case before == text && underline.MatchString(l):
			d.kinds[i], d.kinds[i-1] = heading, heading
		case definedTarget.MatchString(l):
			d.kinds[i] = definition
		case delimiterRow.MatchString(l) && before == text && strings.Contains(d.lines[i-1], "|"):
			d.kinds[i], d.kinds[i-1] = table, table
		case before == table && strings.Contains(l, "|"):
			d.kinds[i] = table
		default:
			d.kinds[i] = text
			if item.MatchString(l) {
				inList = true
			} else if before != text && !strings.HasPrefix(l, " ") {
				inList = false
			}
		}
	}
	return d
}

// checkDocument returns the findings in a Markdown file.
func checkDocument(t tree, name string) []finding {
	d := parse(t[name])
	var found []finding
	for i, l := range d.lines {
		if n := columns(l); d.kinds[i] == text && n > maxProse && !oneLink(l) {
			found = append(found, finding{name, i + 1, fmt.Sprintf("the line is %d columns wide, more than %d", n, maxProse)})
		}
	}
	spans, targets := d.inline()
	for _, target := range targets {
		if why := t.broken(name, target.text); why != "" {
			found = append(found, finding{name, target.line, why})
		}
	}
	for _, s := range spans {
		if sourceFile.MatchString(s.text) && !t.names(name, s.text) {
			found = append(found, finding{name, s.line, "there is no file " + s.text})
		}
	}
	return found
}

// oneLink reports whether a line consists of one link, or of one word, which
// cannot be wrapped.
func oneLink(line string) bool {
	depth, before := 0, ' '
	for _, r := range line[len(prefix.FindString(line)):] {
		switch {
		case r == '[', r == '(' && (before == ']' || depth > 0):
			depth++
		case (r == ']' || r == ')') && depth > 0:
			depth--
		case r == ' ' && depth == 0:
			return false
		}
		before = r
	}
	return depth == 0
}

// A place is a text within a document.
type place struct {
	text string
	line int
}

var attribute = regexp.MustCompile(`\b(?:href|src|srcset)="([^"]*)"`)

// inline returns the code spans of a document and the targets of its links.
func (d document) inline() (spans, targets []place) {
	text := d.proseAlone()
	line := 1
	for i := 0; i < len(text); {
		switch rest := text[i:]; {
		case rest[0] == '\n':
			line++
			i++
		case rest[0] == '\\':
			i += min(2, len(rest))
		case rest[0] == '`':
			n := len(rest) - len(strings.TrimLeft(rest, "`"))
			span, ok := codeSpan(rest, n)
			if !ok {
				i += n
				continue
			}
			spans = append(spans, place{strings.TrimSpace(span), line})
			line += strings.Count(span, "\n")
			i += len(span) + 2*n
		case strings.HasPrefix(rest, "]("):
			target, n := linkTarget(rest[2:])
			targets = append(targets, place{target, line})
			i += 2 + n
		default:
			i++
		}
	}
	for i, l := range d.lines {
		if m := definedTarget.FindStringSubmatch(l); d.kinds[i] == definition {
			targets = append(targets, place{strings.Trim(m[1], "<>"), i + 1})
		}
		if d.kinds[i] == code {
			continue
		}
		for _, m := range attribute.FindAllStringSubmatch(l, -1) {
			targets = append(targets, place{m[1], i + 1})
		}
	}
	return spans, targets
}

// proseAlone returns the document with the lines of code and HTML left empty.
func (d document) proseAlone() string {
	lines := make([]string, len(d.lines))
	for i, l := range d.lines {
		if d.kinds[i] != code && d.kinds[i] != html {
			lines[i] = l
		}
	}
	return strings.Join(lines, "\n")
}

// codeSpan returns the text between the n backticks that s begins with and the
// next n. It is not ok if they do not come before the end of the paragraph.
func codeSpan(s string, n int) (span string, ok bool) {
	paragraph, _, _ := strings.Cut(s, "\n\n")
	for i := n; i < len(paragraph); {
		if paragraph[i] != '`' {
			i++
			continue
		}
		run := len(paragraph[i:]) - len(strings.TrimLeft(paragraph[i:], "`"))
		if run == n {
			return paragraph[n:i], true
		}
		i += run
	}
	return "", false
}

// linkTarget returns the target at the start of s, which follows the opening
// parenthesis of an inline link, and the target's length in s.
func linkTarget(s string) (target string, n int) {
	if strings.HasPrefix(s, "<") { // it may have spaces
		line, _, _ := strings.Cut(s, "\n")
		if n := strings.IndexByte(line, '>'); n > 0 {
			return s[1:n], n + 1
		}
	}
	depth := 0
	for n < len(s) && s[n] != '\n' && s[n] != ' ' && depth >= 0 {
		switch s[n] {
		case '(':
			depth++
		case ')':
			depth--
		}
		n++
	}
	if depth < 0 {
		n--
	}
	return s[:n], n
}

// sourceFile matches a code span that names a file or a pattern of files, with
// or without a line.
var sourceFile = regexp.MustCompile(`^[\w./*-]*\w[\w*-]*\.(go|tsx?)(:\d+)?$`)

// names reports whether the file that a document names exists. The name is
// relative to the document or to the root. With a folder in it, it may also be
// the end of a path. A bare name may not: after a file is moved or deleted,
// there is often another one of that name elsewhere.
func (t tree) names(doc, name string) bool {
	name, _, _ = strings.Cut(name, ":")
	if strings.HasPrefix(name, "_") { // "_test.go" means all names with this end
		name = "*" + name
	}
	patterns := []string{path.Join(path.Dir(doc), name), path.Clean(name)}
	depth := strings.Count(name, "/") + 1
	for file := range t {
		for _, p := range patterns {
			if ok, err := path.Match(p, file); ok && err == nil {
				return true
			}
		}
		parts := strings.Split(file, "/")
		if depth == 1 || len(parts) < depth {
			continue
		}
		if ok, err := path.Match(name, strings.Join(parts[len(parts)-depth:], "/")); ok && err == nil {
			return true
		}
	}
	return false
}
