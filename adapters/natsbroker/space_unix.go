//go:build linux || darwin || freebsd

package natsbroker

import "syscall"

// freeBytes returns how many bytes this process may write to the disk of a
// directory. Negative: unknown.
func freeBytes(dir string) int64 {
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) != nil {
		return -1
	}
	return int64(uint64(fs.Bavail) * uint64(fs.Bsize))
}
