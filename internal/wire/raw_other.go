//go:build !unix

package wire

import "net"

// socket is not used on this system. Reads hold a buffer, and writes are made
// by goroutines on demand.
type socket struct{}

func newSocket(net.Conn) *socket { return nil }

func (*socket) read() (*[readSize]byte, int, error) { panic("wire: no socket") }
func (*socket) tryWrite([]byte) (int, error)        { panic("wire: no socket") }
