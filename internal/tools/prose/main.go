// Command prose finds faults in comments and documents that the linters of the
// languages do not find: lines that are too wide, and links and file names that
// lead nowhere.
//
//	go run ./internal/tools/prose [FILE or FOLDER]...
//
// It prints each finding with its file and line:
//
//   - A comment in a Go, TypeScript or JavaScript file is wider than 80
//     columns, or a line with code and a comment is wider than 100. A tab
//     counts 4. Directives, the output of an example, and a single long word,
//     such as an address, may be wider.
//   - A line of Markdown prose is wider than 110 columns. Tables, code, HTML,
//     headings, and a line that consists of one link may be wider.
//   - A relative link in Markdown leads to a file, a folder or a heading that
//     does not exist.
//   - A document names a Go or TypeScript file in backticks, such as `hub.go`,
//     `hub.go:12`, `loop_*.go` or `wire/conn.go`, that does not exist. A name
//     is relative to the document or to the root. With a folder in it, it may
//     also be the end of a path.
//
// The files are those that are in Git or that git add would add. With
// arguments, only findings in the given files and folders are printed.
//
// The exit status is 1 if there are findings, and 2 if the check failed.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	n, err := run(context.Background(), ".", os.Args[1:], os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "prose:", err)
		os.Exit(2)
	case n > 0:
		fmt.Fprintf(os.Stderr, "prose: %d findings\n", n)
		os.Exit(1)
	}
}

// run writes the findings in the repository around dir to out, and returns
// their number. If only is not empty, it holds the files and folders to report
// on, relative to dir.
func run(ctx context.Context, dir string, only []string, out io.Writer) (int, error) {
	root, err := git(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return 0, err
	}
	root = strings.TrimSpace(root)
	for i, name := range only {
		if only[i], err = inside(root, filepath.Join(dir, name)); err != nil {
			return 0, err
		}
	}
	list, err := git(ctx, root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return 0, err
	}
	tree, err := load(root, strings.Split(strings.TrimRight(list, "\x00"), "\x00"))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, f := range check(tree) {
		if len(only) > 0 && !slices.ContainsFunc(only, func(o string) bool { return under(f.file, o) }) {
			continue
		}
		n++
		if _, err := fmt.Fprintf(out, "%s:%d: %s\n", f.file, f.line, f.text); err != nil {
			return n, err
		}
	}
	return n, nil
}

// inside returns the path of an existing file relative to root, with slashes.
func inside(root, name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(abs); err != nil {
		return "", err
	}
	rel, err := filepath.Rel(root, abs)
	return filepath.ToSlash(rel), err
}

// under reports whether the file is the folder, or in it.
func under(file, folder string) bool {
	return folder == "." || file == folder || strings.HasPrefix(file, folder+"/")
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return string(out), nil
}

// A tree maps the paths of a repository's files to their contents. Paths have
// slashes on every system. The content is empty if the file is not checked.
type tree map[string]string

// load reads the files that are checked. It leaves out deleted files, which Git
// still lists.
func load(root string, names []string) (tree, error) {
	t := tree{}
	for _, name := range names {
		file := filepath.Join(root, filepath.FromSlash(name))
		if _, err := os.Stat(file); os.IsNotExist(err) {
			continue
		}
		t[name] = ""
		if checkerOf(name) == nil {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		t[name] = string(b)
	}
	return t, nil
}

type finding struct {
	file string
	line int
	text string
}

// checkerOf returns the check for a file of this name, or nil if there is none.
func checkerOf(name string) func(t tree, name string) []finding {
	switch path.Ext(name) {
	case ".md":
		return checkDocument
	case ".go":
		return checkGo
	case ".ts", ".tsx", ".mjs", ".js":
		if path.Base(path.Dir(name)) == "dist" {
			return nil // built from sources that are checked
		}
		return checkScript
	}
	return nil
}

// check returns the findings in the tree, sorted by file and line.
func check(t tree) []finding {
	var all []finding
	for name := range t {
		if f := checkerOf(name); f != nil {
			all = append(all, f(t, name)...)
		}
	}
	slices.SortFunc(all, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.text, b.text))
	})
	return all
}
