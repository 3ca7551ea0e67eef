package main

import (
	"slices"
	"strings"
	"testing"
)

func TestProseWidths(t *testing.T) {
	long := wide(111)
	link := "[text of a link](https://example.com/" + strings.Repeat("x", 110) + ")"
	for _, tt := range []struct {
		name, src string
		want      []int
	}{
		{"110 columns", wide(110), nil},
		{"111 columns", "\n" + long, []int{2}},
		{"a list", "- a\n- " + long + "\n  " + long, []int{2, 3}},
		{"a quote", "> " + long, []int{1}},
		{"fenced code", "```\n" + long + "\n```\n" + long, []int{4}},
		{"fenced code with another fence in it", "````\n```\n" + long + "\n````\n" + long, []int{5}},
		{"fenced code in a list", "- a\n\n  ```go\n  " + long + "\n  ```\n\n" + long, []int{7}},
		{"fenced code with a language", "~~~go\n" + long + "\n~~~", nil},
		{"indented code", "a\n\n    " + long, nil},
		{"no code in a paragraph", "a\n    " + long, []int{2}},
		{"no code in a list", "- a\n\n    " + long, []int{3}},
		{"indented code after a list", "- a\n\nb\n\n    " + long, nil},
		{"a table", "| a | b |\n|---|---|\n| " + long + " | c |\n\n" + long, []int{5}},
		{"a table without outer bars", "a | b\n--|--\n" + long + " | c", nil},
		{"no table without its second row", "a\n| " + long, []int{2}},
		{"a heading", "# " + long, nil},
		{"an underlined heading", long + "\n---", nil},
		{"HTML", "<p>\n" + long + "\n</p>\n\n" + long, []int{5}},
		{"a comment", "<!--\n\n" + long + "\n\n-->\n\n" + long, []int{7}},
		{"the definition of a link", "[a]: https://example.com/" + strings.Repeat("x", 110), nil},
		{"a link alone", link, nil},
		{"a link alone in a list", "1. " + link + ".", nil},
		{"a picture that is a link", "[![a b](https://example.com/" + strings.Repeat("x", 110) + ")](https://example.com)", nil},
		{"a link and a word", link + " word", []int{1}},
		{"a text in parentheses", "(" + long + ")", []int{1}},
		{"a bracket without an end", "[" + long, []int{1}},
		{"an address alone", "https://example.com/" + strings.Repeat("x", 110), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := check(tree{"a.md": tt.src})
			if got := lines(found); !slices.Equal(got, tt.want) {
				t.Errorf("lines %v, want %v: %v", got, tt.want, found)
			}
		})
	}
}

func TestFileNames(t *testing.T) {
	files := tree{"hub.go": "", "loop_sweep.go": "", "internal/wire/conn.go": "", "docs/only.go": "", "web/src/App.tsx": "", "web/test/a.test.ts": "", "a_test.go": ""}
	for _, tt := range []struct {
		doc, src string
		want     []string
	}{
		{"docs/a.md", "`hub.go` `hub.go:12` `../hub.go` `only.go` `docs/only.go`", nil},
		{"docs/a.md", "`wire/conn.go` `internal/wire/conn.go` `src/App.tsx` `test/a.test.ts` `./only.go`", nil},
		{"docs/a.md", "`loop_*.go` `wire/*.go` `*_test.go` `_test.go`", nil},
		{"docs/a.md", "`conn.go` `App.tsx`", []string{"conn.go", "App.tsx"}},
		{"web/README.md", "`only.go` `wire/hub.go` `a.test.ts`", []string{"only.go", "wire/hub.go", "a.test.ts"}},
		{"docs/a.md", "`presence_*.go` `_internal_test.go`", []string{"presence_*.go", "_internal_test.go"}},
		{"docs/a.md", "`gone.go:7`", []string{"gone.go:7"}},
		{"docs/a.md", "gone.go, `go run gone.go`, `.go`, `pkg.go.dev`, `a.gone`", nil},
		{"docs/a.md", "```\n`gone.go`\n```\n\n    `gone.go`", nil},
		{"docs/a.md", "| `gone.go` | a |\n|---|---|\n| b | `none.ts` |", []string{"gone.go", "none.ts"}},
		{"docs/a.md", "``gone.go`` and ` none.go `", []string{"gone.go", "none.go"}},
	} {
		t.Run(tt.src, func(t *testing.T) {
			files[tt.doc] = tt.src
			defer delete(files, tt.doc)
			var got []string
			for _, f := range checkDocument(files, tt.doc) {
				got = append(got, strings.TrimPrefix(f.text, "there is no file "))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestCodeSpans: a code span may continue on the next line, but not in the next
// paragraph. There are no links in it.
func TestCodeSpans(t *testing.T) {
	for _, tt := range []struct {
		src  string
		want []place
	}{
		{"a\n`b` ``c ` d``", []place{{"b", 2}, {"c ` d", 2}}},
		{"`a\nb` `c`", []place{{"a\nb", 1}, {"c", 2}}},
		{"`a\n\n`c`", []place{{"c", 3}}},
		{"\\`a\\` `b`", []place{{"b", 1}}},
		{"`[a](b)`", []place{{"[a](b)", 1}}},
		{"<p>\n`a`\n</p>", nil},
	} {
		t.Run(tt.src, func(t *testing.T) {
			spans, targets := parse(tt.src).inline()
			if !slices.Equal(spans, tt.want) {
				t.Errorf("%v, want %v", spans, tt.want)
			}
			if len(targets) > 0 {
				t.Errorf("links %v", targets)
			}
		})
	}
}
