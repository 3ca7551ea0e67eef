//go:build !linux

package wire

// Poller is not used on this system: each connection keeps a goroutine, which
// waits.
type Poller struct{}

// Close does nothing.
func (*Poller) Close() {}

func (*Poller) park(*Conn, Sleeper) bool { return false }
func (*Poller) take(*Conn) Sleeper       { return nil }
