package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestRun: the files come from Git, and the findings are sorted.
func TestRun(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	git("init", "-q")
	write(".gitignore", "ignored/\ngone.md\n")
	write("docs/a.md", "[one](ignored.md)\n\n[two](../ignored/b.md)\n")
	write("ignored/b.md", "[three](nowhere)\n")
	write("sub/c.md", "`c.go` `d.go`\n")
	write("sub/c.go", "package sub\n")
	write("gone.md", "[four](nowhere)\n")
	git("add", "-f", "gone.md")
	if err := os.Remove(filepath.Join(root, "gone.md")); err != nil {
		t.Fatal(err)
	}

	const docs = "docs/a.md:1: the link to ignored.md: there is no docs/ignored.md\n" +
		"docs/a.md:3: the link to ../ignored/b.md: there is no ignored/b.md\n"
	const sub = "sub/c.md:1: there is no file d.go\n"
	for _, tt := range []struct {
		name string
		dir  string
		only []string
		want string
		n    int
	}{
		{"all", ".", nil, docs + sub, 3},
		{"all from a folder", "sub", nil, docs + sub, 3},
		{"the root", ".", []string{"."}, docs + sub, 3},
		{"a folder", ".", []string{"sub"}, sub, 1},
		{"a folder from a folder", "sub", []string{"../docs"}, docs, 2},
		{"files", ".", []string{"sub/c.md", "sub/c.go"}, sub, 1},
		{"a file without findings", ".", []string{"sub/c.go"}, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			n, err := run(t.Context(), filepath.Join(root, tt.dir), tt.only, &out)
			if err != nil || n != tt.n || out.String() != tt.want {
				t.Errorf("%d findings, err %v\n%s", n, err, out.String())
			}
		})
	}
	if _, err := run(t.Context(), root, []string{"nowhere"}, &bytes.Buffer{}); err == nil {
		t.Error("a file that does not exist was accepted")
	}
}
