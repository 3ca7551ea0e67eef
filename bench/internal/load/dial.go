//go:build linux

package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// connect opens a connection to addr from the loopback address
// 127.0.0.(2+source). On loopback this does not wait.
func connect(addr string, source int, small bool) (int, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	if small {
		// The kernel takes the smallest size that it allows.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
			return 0, errors.Join(err, unix.Close(fd))
		}
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + source)}}),
		unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}),
	)
	if err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// dialTLS continues with a connection that a goroutine of its own reads. The
// markers of messages cannot be counted in encrypted bytes.
func (c *Conn) dialTLS(ctx context.Context) error {
	file := os.NewFile(uintptr(c.fd), "client")
	raw, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	//nolint:gosec // the server of a benchmark signs its own certificate
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.tls = conn
	c.write([]byte(c.request()))
	go c.readTLS()
	return nil
}

func (c *Conn) readTLS() {
	buf := make([]byte, 16<<10)
	for !c.closed.Load() {
		n, err := c.tls.Read(buf)
		c.mu.Lock()
		c.feed(buf[:n])
		c.mu.Unlock()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			c.end(fmt.Errorf("read: %w", err))
			return
		}
		c.fleet.pump()
	}
}
