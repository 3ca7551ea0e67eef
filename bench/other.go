//go:build !linux

// Command bench measures what chathub and other servers cost: see README.md.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: only on Linux: the load generator uses epoll, and CPU time comes from its clocks")
	os.Exit(1)
}
