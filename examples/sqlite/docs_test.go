package main_test

import (
	"os"
	"strings"
	"testing"
)

// TestDocs checks that the code in docs/saving.md is the code of this example,
// or of its tests.
func TestDocs(t *testing.T) {
	var code string
	for _, name := range []string{"archive.go", "database.go", "follow_internal_test.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code += string(b)
	}
	text, err := os.ReadFile("../../docs/saving.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```")
	for i := 1; i < len(blocks); i += 2 {
		_, block, _ := strings.Cut(blocks[i], "\n") // after the language
		if !strings.Contains(code, block) {
			t.Errorf("this is not in the example:\n%s", block)
		}
	}
	if len(blocks) < 3 || len(blocks)%2 == 0 {
		t.Errorf("%d parts between code fences", len(blocks))
	}
}
