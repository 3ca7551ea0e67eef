//go:build !linux && !darwin && !freebsd

package natsbroker

// freeBytes returns how many bytes this process may write to the disk of a
// directory. Negative: unknown.
func freeBytes(string) int64 { return -1 }
