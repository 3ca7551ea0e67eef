package main

import (
	"slices"
	"strings"
	"testing"
)

func TestLinks(t *testing.T) {
	files := tree{
		"README.md":       "# Chat\n\n## What it does\n",
		"LICENSE":         "",
		"docs/guide.md":   "# Guide\n\n## `Config`, its [limits](a)\n\nSet next\n---\n\n## Twice\n## Twice\n\n<a id=\"here\"></a>\n\n```\n## Code\n```\n",
		"docs/a (b).png":  "",
		"examples/x/x.go": "",
	}
	for _, tt := range []struct {
		name, src string
		want      []finding
	}{
		{"a file", "[a](guide.md) ![b](../LICENSE \"c\")", nil},
		{"a folder", "[a](../examples/x/) [b](../examples) [c](.) [d](..)", nil},
		{"from the root", "[a](/LICENSE) [b](/docs/guide.md#guide)", nil},
		{"elsewhere", "[a](https://example.com/a#b) [b](mailto:a@example.com) [c](//example.com)", nil},
		{"an address in brackets", "[a](<a (b).png>) [b](<../LICENSE> \"c\")", nil},
		{"an escaped address", "[a](a%20(b).png)", nil},
		{"headings", "# An own one\n\n[a](#an-own-one) [b](guide.md#config-its-limits) [c](guide.md#set-next)", nil},
		{"a heading twice", "[a](guide.md#twice) [b](guide.md#twice-1) [c](guide.md#here)", nil},
		{"a heading of a folder", "[a](..#what-it-does) [b](../#chat)", nil},
		{"over lines", "a [b\nc](guide.md) d", nil},
		{"a definition", "[a][b]\n\n[b]: guide.md#guide", nil},
		{"HTML", "<p>\n<img src=\"a%20(b).png\" alt=\"b\">\n</p>", nil},
		{"code", "`[a](none)`\n\n```\n[a](none) <img src=\"none\">\n```\n", nil},

		{"no file", "a\n[b](none.md)", []finding{{"docs/a.md", 2, "the link to none.md: there is no docs/none.md"}}},
		{"no file over lines", "a\n[b\nc](none.md)", []finding{{"docs/a.md", 3, "the link to none.md: there is no docs/none.md"}}},
		{"no folder", "[a](../exam)", []finding{{"docs/a.md", 1, "the link to ../exam: there is no exam"}}},
		{"outside", "[a](../../a.md)", []finding{{"docs/a.md", 1, "the link to ../../a.md: there is no ../a.md"}}},
		{"no heading", "[a](guide.md#none)", []finding{{"docs/a.md", 1, "the link to guide.md#none: docs/guide.md has no such heading"}}},
		{"no own heading", "[a](#none)", []finding{{"docs/a.md", 1, "the link to #none: docs/a.md has no such heading"}}},
		{"a heading in code", "[a](guide.md#code)", []finding{{"docs/a.md", 1, "the link to guide.md#code: docs/guide.md has no such heading"}}},
		{"no third heading", "[a](guide.md#twice-2)", []finding{{"docs/a.md", 1, "the link to guide.md#twice-2: docs/guide.md has no such heading"}}},
		{"the heading of a Go file", "[a](../examples/x/x.go#L1)", []finding{{"docs/a.md", 1, "the link to ../examples/x/x.go#L1: only Markdown files have anchors"}}},
		{"no target", "[a]()", []finding{{"docs/a.md", 1, "a link without a target"}}},
		{"a bad escape", "[a](a%zz)", []finding{{"docs/a.md", 1, "the link to a%zz: invalid URL escape \"%zz\""}}},
		{"no definition's file", "[a][b]\n\n[b]: none.md", []finding{{"docs/a.md", 3, "the link to none.md: there is no docs/none.md"}}},
		{"no picture in HTML", "<img src=\"none.png\">", []finding{{"docs/a.md", 1, "the link to none.png: there is no docs/none.png"}}},
		{"a picture that is a link", "[![a](none.png)](none.md)", []finding{
			{"docs/a.md", 1, "the link to none.md: there is no docs/none.md"},
			{"docs/a.md", 1, "the link to none.png: there is no docs/none.png"},
		}},
		{"in a table", "| [a](none.md) |\n|---|\n| [b](guide.md) |", []finding{{"docs/a.md", 1, "the link to none.md: there is no docs/none.md"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files["docs/a.md"] = tt.src
			var found []finding
			for _, f := range check(files) {
				if f.file == "docs/a.md" {
					found = append(found, f)
				}
			}
			if !slices.Equal(found, tt.want) {
				t.Errorf("found %v\nwant  %v", found, tt.want)
			}
		})
	}
}

func TestSlug(t *testing.T) {
	for title, want := range map[string]string{
		"Plain words":                       "plain-words",
		"`Config.Logger` and C++":           "configlogger-and-c",
		"9. Versions":                       "9-versions",
		"A — dash, and a-hyphen":            "a--dash-and-a-hyphen",
		"under_scores":                      "under_scores",
		"[A link](https://example.com) [b]": "a-link-b",
		"Größe":                             "größe",
		"<a id=\"x\"></a>Tagged":            "tagged",
	} {
		if got := slug(title); got != want {
			t.Errorf("%q: %q, want %q", title, got, want)
		}
	}
}

func TestAnchorsOfHeadingForms(t *testing.T) {
	src := strings.Join([]string{"# One #", "", "Two", "===", "", "####### seven", "", "#none", "", "##", "- # in a list"}, "\n")
	got := anchors(src)
	for _, want := range []string{"one", "two"} {
		if !got[want] {
			t.Errorf("no anchor %q in %v", want, got)
		}
	}
	for _, not := range []string{"seven", "none"} {
		if got[not] {
			t.Errorf("anchor %q", not)
		}
	}
}
