//go:build !linux

// Command bench measures what chathub and other servers cost: see README.md.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: runs on Linux only, since the load generator uses epoll and CPU time comes from Linux clocks")
	os.Exit(1)
}
