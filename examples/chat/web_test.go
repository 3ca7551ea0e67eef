package main

import (
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"
)

var reference = regexp.MustCompile(`(?:src|href)="([^"]+)"`)

// Every file of the page is served with its type, refers to no missing file,
// and has a policy that allows nothing from elsewhere. The tests in web/ check
// the same in a browser.
func TestPage(t *testing.T) {
	s := start(t, nil)
	types := map[string]string{
		".html": "text/html; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".css":  "text/css; charset=utf-8",
		".svg":  "image/svg+xml",
		".txt":  "text/plain; charset=utf-8",
	}
	files, err := fs.Glob(embedded, "web/dist/*")
	if err != nil || len(files) < len(types) {
		t.Fatal(files, err)
	}
	have := map[string]bool{}
	for _, name := range files {
		have[path.Base(name)] = true
	}
	for name := range have {
		url := strings.TrimSuffix(name, "index.html")
		a := s.request(t, http.MethodGet, url, "", nil)
		if a.status != http.StatusOK {
			t.Errorf("%s: %d", name, a.status)
		}
		if got, want := a.header.Get("Content-Type"), types[path.Ext(name)]; got != want {
			t.Errorf("%s has the type %q, want %q", name, got, want)
		}
		if path.Ext(name) != ".html" {
			continue
		}
		for _, m := range reference.FindAllStringSubmatch(a.body, -1) {
			if !have[path.Base(m[1])] {
				t.Errorf("%s refers to %s", name, m[1])
			}
		}
	}
	for _, p := range []string{"", "app.css", "nowhere", "healthz"} {
		header := s.request(t, http.MethodGet, p, "", nil).header
		csp := header.Get("Content-Security-Policy")
		for _, directive := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(csp, directive) {
				t.Errorf("/%s: policy %q has no %s", p, csp, directive)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("/%s: policy %q", p, csp)
		}
		if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Referrer-Policy") == "" {
			t.Errorf("/%s: headers %v", p, header)
		}
	}
}
