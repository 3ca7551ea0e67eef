//go:build !unix

package natsbroker

import "os"

// lockFile opens a file. There is no lock here: that one process at a time uses the
// directory is up to who starts them.
func lockFile(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
}
