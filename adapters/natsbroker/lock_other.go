//go:build !unix

package natsbroker

import "os"

// lockFile opens a file, without a lock on this operating system. The operator
// must make sure that only one process uses the directory.
func lockFile(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
}
