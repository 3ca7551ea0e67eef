//go:build unix

package natsbroker

import (
	"os"
	"syscall"
)

// lockFile opens a file and locks it. It fails if another process holds the
// lock. The lock ends when the file is closed, or with the process.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
