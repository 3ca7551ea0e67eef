//go:build !linux

// Command faults provokes faults: see main.go.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "faults: runs on Linux only, since it makes the kernel drop packets and reads /proc")
	os.Exit(1)
}
