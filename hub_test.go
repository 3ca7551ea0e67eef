package chathub_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the run if a goroutine of the library outlives its hub.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := leaked(10 * time.Second); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines left behind:\n\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked returns the stacks of goroutines that still run code of this module
// after the tests, except the caller's. It gives those that are ending time to
// do so.
func leaked(patience time.Duration) (left string) {
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		buf := make([]byte, 1<<20)
		stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		left = ""
		for _, s := range stacks[1:] {
			if strings.Contains(s, "chathub-go/chathub") || strings.Contains(s, "coder/websocket") {
				left += s + "\n\n"
			}
		}
		if left == "" {
			return ""
		}
	}
	return left
}
