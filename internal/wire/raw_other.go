//go:build !unix

package wire

import "net"

type rawWriter interface {
	tryWrite(p []byte) (int, error)
}

// newRawWriter returns nil: writes go through a goroutine on demand.
func newRawWriter(net.Conn) rawWriter { return nil }
