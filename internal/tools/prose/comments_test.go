package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// wide returns a text of n columns that can be wrapped.
func wide(n int) string {
	return strings.Repeat("word ", n/5) + strings.Repeat("x", n%5)
}

// lines returns the lines of findings.
func lines(found []finding) []int {
	var ns []int
	for _, f := range found {
		ns = append(ns, f.line)
	}
	return ns
}

func TestCommentWidths(t *testing.T) {
	for _, tt := range []struct {
		name, src string
		want      []int
	}{
		{"80 columns", "// " + wide(77), nil},
		{"81 columns", "\n// " + wide(78), []int{2}},
		{"a tab counts 4", "func f() {\n\t// " + wide(73) + "\n\t\t// " + wide(70) + "\n}", []int{3}},
		{"runes, not bytes", "// " + strings.Repeat("ä ", 38) + "ä", nil},
		{"each line of a group", "// a\n// " + wide(78) + "\n// b\n// " + wide(78), []int{2, 4}},
		{"after code, 100 columns", "var a int // " + wide(87), nil},
		{"after code, 101 columns", "var a int // " + wide(88), []int{1}},
		{"after code, one word", "var a int // " + strings.Repeat("x", 88), []int{1}},
		{"below a comment after code", "var a int // b\n          // " + wide(68), []int{2}},
		{"code alone", "var a = `" + wide(120) + "`", nil},
		{"a comment in a string", "var a = \"// " + wide(120) + "\"", nil},
		{"a comment in a raw string", "var a = `\n// " + wide(120) + "\n`", nil},
		{"a block comment", "/*\n" + wide(81) + "\n*/", []int{2}},
		{"a block comment after code", "var a /* " + wide(88) + "\n" + wide(81) + "*/ int", []int{2}},
		{"a directive", "//go:generate " + wide(100), nil},
		{"nolint on a line of its own", "//nolint:all // " + wide(100), nil},
		{"nolint after code", "var a int //nolint:all // " + wide(100), []int{1}},
		{"a long address", "// https://" + strings.Repeat("x", 80), nil},
		{"a long address in a list", "//   - https://" + strings.Repeat("x", 80), nil},
		{"a long address in a text", "// See https://" + strings.Repeat("x", 80), []int{1}},
		{"the output of an example", "// Output:\n// " + wide(100) + "\n\n// " + wide(100), []int{4}},
		{"CRLF", "// " + wide(77) + "\r\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := checkGo(tree{"a.go": "package a\n\n" + tt.src}, "a.go")
			got := lines(found)
			for i := range got {
				got[i] -= 2
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("lines %v, want %v: %v", got, tt.want, found)
			}
		})
	}
}

func TestCommentFinding(t *testing.T) {
	found := checkGo(tree{"a/b.go": "package a // " + wide(90) + "\n\n// " + wide(80) + "\n"}, "a/b.go")
	want := []finding{
		{"a/b.go", 1, "the line with the comment is 103 columns wide, more than 100"},
		{"a/b.go", 3, "the comment is 83 columns wide, more than 80"},
	}
	if !slices.Equal(found, want) {
		t.Errorf("found %v", found)
	}
}

func TestScriptComments(t *testing.T) {
	for _, tt := range []struct {
		name, src string
		want      []string
	}{
		{"line", "a; // b\n// c", []string{"// b", "// c"}},
		{"block", "/** a\n * b\n */ c /* d */", []string{"/** a\n * b\n */", "/* d */"}},
		{"block without an end", "a /* b", []string{"/* b"}},
		{"the shortest block", "/**/ a // b", []string{"/**/", "// b"}},
		{"strings", `a = '// b' + "// \" // c"; // d`, []string{"// d"}},
		{"template", "a = `// b\n/* c */`; // d", []string{"// d"}},
		{"comment in a template's expression", "a = `b ${ {c: /* d */ 1} } // e ${`// f`} // g`; // h", []string{"/* d */", "// h"}},
		{"regular expression", `a.replace(/[/"'` + "`" + `]\/\//, '') // b`, []string{"// b"}},
		{"regular expression after return", "return /'/.test(a) // b", []string{"// b"}},
		{"division", `a = b / c; // d's`, []string{"// d's"}},
		{"division by a parenthesis", "a = (b) / 2 // c / d", []string{"// c / d"}},
		{"apostrophe in JSX", "<p>it's</p>\n// a", []string{"// a"}},
		{"address in JSX", "<p>https://example.com</p>\n// a", []string{"// a"}},
		{"after a colon", "a: // b", []string{"// b"}},
		{"comment in JSX", "<p>{/* a */}</p>", []string{"/* a */"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, s := range scriptComments(tt.src) {
				got = append(got, tt.src[s.from:s.to])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestScriptWidths(t *testing.T) {
	for _, tt := range []struct {
		name, src string
		want      []int
	}{
		{"JSDoc", "/**\n * " + wide(77) + "\n * " + wide(78) + "\n */", []int{3}},
		{"JSDoc in a line", "/** " + wide(78) + " */", []int{1}},
		{"after code", "const a = 1; // " + wide(84) + "\nconst b = 1; // " + wide(85), []int{2}},
		{"for biome", "// biome-ignore lint/a: " + wide(100), nil},
		{"for TypeScript", "// @ts-expect-error: " + wide(100), nil},
		{"a long address", " * https://" + strings.Repeat("x", 80), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{"a.ts", "a.tsx", "a.mjs"} {
				got := lines(check(tree{name: tt.src}))
				if !slices.Equal(got, tt.want) {
					t.Errorf("%s: lines %v, want %v", name, got, tt.want)
				}
			}
		})
	}
	if found := check(tree{"web/dist/app.js": "// " + wide(100)}); len(found) > 0 {
		t.Error("a built file is checked: ", fmt.Sprint(found))
	}
}
