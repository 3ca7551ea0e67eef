package main

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// version is set by a release: go build -ldflags "-X main.version=v1.2.3".
var version string

// buildVersion returns the version, the commit and the version of Go that the
// program was built from, as far as they are known.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	name := version
	if name == "" {
		name = info.Main.Version
	}
	parts := []string{name}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			parts = append(parts, "commit "+s.Value)
		case s.Key == "vcs.modified" && s.Value == "true":
			parts = append(parts, "modified")
		}
	}
	return strings.Join(append(parts, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH), ", ")
}
