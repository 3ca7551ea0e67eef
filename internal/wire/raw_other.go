//go:build !unix

package wire

import "net"

// socket is not used on this system: reads hold a buffer, and writes use a
// goroutine on demand.
type socket struct{}

func newSocket(net.Conn) *socket { return nil }

func (*socket) read() (*[readSize]byte, int, error) { panic("wire: no socket") }
func (*socket) tryWrite([]byte) (int, error)        { panic("wire: no socket") }
