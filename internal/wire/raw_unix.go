//go:build unix

package wire

import (
	"errors"
	"net"
	"syscall"
)

// rawWriter writes to a socket without waiting for it.
type rawWriter interface {
	// tryWrite returns 0 and no error where the socket is full.
	tryWrite(p []byte) (int, error)
}

// newRawWriter returns nil where raw is not a plain socket: TLS has no
// non-blocking write, and a wrapper must not be gone around.
func newRawWriter(raw net.Conn) rawWriter {
	var sc syscall.Conn
	switch c := raw.(type) {
	case *net.TCPConn:
		sc = c
	case *net.UnixConn:
		sc = c
	default:
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{rc: rc}
	s.write = s.writeFD
	return s
}

// socket is used by one goroutine at a time. The callback and what it works on
// are fields so that a write allocates nothing.
type socket struct {
	rc    syscall.RawConn
	write func(fd uintptr) bool
	p     []byte
	n     int
	err   error
}

func (s *socket) writeFD(fd uintptr) bool {
	for {
		s.n, s.err = syscall.Write(int(fd), s.p)
		if !errors.Is(s.err, syscall.EINTR) {
			return true // done, even where the socket is full: never wait
		}
	}
}

func (s *socket) tryWrite(p []byte) (int, error) {
	s.p = p
	err := s.rc.Write(s.write)
	s.p = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(s.err, syscall.EAGAIN):
		return 0, nil
	case s.err != nil:
		return 0, s.err
	}
	return s.n, nil
}
