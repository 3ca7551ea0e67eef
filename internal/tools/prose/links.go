package main

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

var scheme = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9+.-]*:|//)`)

// broken returns the fault of a link in a document. It is empty if the target
// exists, or is not relative.
func (t tree) broken(doc, target string) string {
	if target == "" {
		return "a link without a target"
	}
	if scheme.MatchString(target) {
		return ""
	}
	name, anchor, _ := strings.Cut(target, "#")
	name, err := url.PathUnescape(name)
	if err != nil {
		return fmt.Sprintf("the link to %s: %v", target, err)
	}
	file := doc
	switch {
	case strings.HasPrefix(name, "/"): // GitHub starts at the root
		file = path.Clean(name[1:])
	case name != "":
		file = path.Join(path.Dir(doc), name)
	}
	text, isFile := t[file]
	if !isFile && !t.hasFolder(file) {
		return fmt.Sprintf("the link to %s: there is no %s", target, file)
	}
	if anchor == "" {
		return ""
	}
	if !isFile {
		file = path.Join(file, "README.md") // GitHub shows it below the folder
		text = t[file]
	}
	if path.Ext(file) != ".md" {
		return fmt.Sprintf("the link to %s: only Markdown files have anchors", target)
	}
	if !anchors(text)[anchor] {
		return fmt.Sprintf("the link to %s: %s has no such heading", target, file)
	}
	return ""
}

func (t tree) hasFolder(name string) bool {
	for file := range t {
		if under(file, name) {
			return true
		}
	}
	return false
}

var (
	linkText = regexp.MustCompile(`!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])`)
	tag      = regexp.MustCompile(`<[^>]*>`)
	named    = regexp.MustCompile(`<a\s[^>]*\b(?:id|name)="([^"]+)"`)
)

// anchors returns the anchors of a Markdown file: those that GitHub makes of
// its headings, and those of HTML elements in it.
func anchors(src string) map[string]bool {
	d := parse(src)
	found := map[string]bool{}
	times := map[string]int{}
	for i, l := range d.lines {
		if d.kinds[i] == code {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(l, -1) {
			found[m[1]] = true
		}
		if d.kinds[i] != heading {
			continue
		}
		title := l
		if m := headingLine.FindStringSubmatch(l); m != nil {
			title = m[2]
		} else if underline.MatchString(l) {
			continue
		}
		s := slug(title)
		if n := times[s]; n > 0 {
			found[fmt.Sprintf("%s-%d", s, n)] = true
		} else {
			found[s] = true
		}
		times[s]++
	}
	return found
}

// slug returns the anchor that GitHub makes of a heading: the letters, in lower
// case, digits, hyphens and underscores of its text, and a hyphen for each
// space.
func slug(title string) string {
	title = tag.ReplaceAllString(linkText.ReplaceAllString(title, "$1"), "")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(title))
}
