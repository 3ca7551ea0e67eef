//go:build unix

package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// socket reads from and writes to a plain socket in ways that net.Conn lacks:
// it writes without waiting, and waits without a buffer to read into. One
// goroutine at a time may read, and one may write. The callbacks and their
// arguments are fields, so that a call allocates nothing.
type socket struct {
	rc syscall.RawConn

	reading func(fd uintptr) bool
	buf     *[readSize]byte
	got     int
	readErr error

	writing  func(fd uintptr) bool
	p        []byte
	put      int
	writeErr error
}

// newSocket returns nil if raw is not a plain socket. TLS has no non-blocking
// write, and a wrapper must not be bypassed.
func newSocket(raw net.Conn) *socket {
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
	s.reading, s.writing = s.readFD, s.writeFD
	return s
}

// read waits for input, and returns it in a borrowed buffer, which is nil on an
// error.
func (s *socket) read() (*[readSize]byte, int, error) {
	s.buf = nil
	err := s.rc.Read(s.reading)
	buf := s.buf
	s.buf = nil
	switch {
	case err != nil:
		return nil, 0, err
	case s.readErr == nil && s.got > 0:
		return buf, s.got, nil
	}
	readBuffers.Put(buf)
	if s.readErr != nil {
		return nil, 0, &net.OpError{Op: "read", Net: "socket", Err: os.NewSyscallError("read", s.readErr)}
	}
	return nil, 0, io.EOF
}

func (s *socket) readFD(fd uintptr) bool {
	buf := readBuffers.Get().(*[readSize]byte)
	n, err := restarted(func() (int, error) { return syscall.Read(int(fd), buf[:]) })
	if errors.Is(err, syscall.EAGAIN) {
		readBuffers.Put(buf)
		return false // wait, without a buffer
	}
	s.buf, s.got, s.readErr = buf, n, err
	return true
}

// tryWrite implements rawWriter.
func (s *socket) tryWrite(p []byte) (int, error) {
	s.p = p
	err := s.rc.Write(s.writing)
	s.p = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(s.writeErr, syscall.EAGAIN):
		return 0, nil
	case s.writeErr != nil:
		return 0, s.writeErr
	}
	return s.put, nil
}

func (s *socket) writeFD(fd uintptr) bool {
	s.put, s.writeErr = restarted(func() (int, error) { return syscall.Write(int(fd), s.p) })
	return true // done even if the socket is full, to never wait
}

// restarted calls f until no signal interrupts it.
func restarted(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
