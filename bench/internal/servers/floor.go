//go:build linux

package servers

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 section 4.2.2 requires it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

func bare() Server {
	return Server{
		Name:    "bare",
		Title:   "_floor: bare write(2) per recipient_",
		About:   "one thread, one system call for each recipient and message, nothing else",
		Dialect: byQuery(),
		Serve:   func(ln net.Listener) error { return serveFloor(ln, false) },
		Floor:   true,
	}
}

func joined() Server {
	return Server{
		Name:    "joined",
		Title:   "_floor: pending frames joined into one write(2)_",
		About:   "the same, but messages that arrive together leave together",
		Dialect: byQuery(),
		Serve:   func(ln net.Listener) error { return serveFloor(ln, true) },
		Floor:   true,
	}
}

// floor is the cost of a chat's system calls: one thread that waits, reads, and
// writes ready frames. It checks hardly anything, and is not a server to use.
type floor struct {
	ep    int
	ln    int
	join  bool
	conns []*floorConn // by descriptor
	rooms map[string]*floorRoom
	dirty []*floorRoom
	buf   []byte
}

type floorRoom struct {
	members []int // descriptors
	pending []byte
}

type floorConn struct {
	in   []byte
	room *floorRoom // nil before the handshake
}

func serveFloor(ln net.Listener, join bool) error {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return errors.New("a floor needs a TCP listener")
	}
	file, err := tcp.File()
	if err != nil {
		return err
	}
	f := &floor{join: join, rooms: make(map[string]*floorRoom), buf: make([]byte, 64<<10)}
	f.ln = int(file.Fd())
	if err := unix.SetNonblock(f.ln, true); err != nil {
		return err
	}
	if f.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := f.watch(f.ln); err != nil {
		return err
	}
	err = f.run()
	runtime.KeepAlive(file)
	return err
}

func (f *floor) watch(fd int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(f.ep, unix.EPOLL_CTL_ADD, fd, &e))
}

func (f *floor) run() error {
	runtime.LockOSThread()
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(f.ep, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for i := range max(n, 0) {
			if fd := int(events[i].Fd); fd == f.ln {
				err = f.accept()
			} else {
				err = f.read(fd)
			}
			if err != nil {
				return err
			}
		}
		for _, r := range f.dirty {
			f.write(r, r.pending)
			r.pending = r.pending[:0]
		}
		f.dirty = f.dirty[:0]
	}
}

func (f *floor) accept() error {
	for {
		fd, _, err := unix.Accept4(f.ln, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("accept4", err)
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		for len(f.conns) <= fd {
			f.conns = append(f.conns, nil)
		}
		f.conns[fd] = &floorConn{}
		if err := f.watch(fd); err != nil {
			return err
		}
	}
}

func (f *floor) read(fd int) error {
	c := f.conns[fd]
	n, err := unix.Read(fd, f.buf)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil, n == 0:
		return unix.Close(fd) // the benchmark is over
	}
	in := f.buf[:n]
	if len(c.in) > 0 {
		c.in = append(c.in, in...)
		in = c.in
	}
	if c.room == nil {
		if in, err = f.handshake(fd, c, in); err != nil {
			return err
		}
	}
	if c.room != nil {
		for {
			payload, rest, ok := unmask(in)
			if !ok {
				break
			}
			f.deliver(c.room, payload)
			in = rest
		}
	}
	if len(in) == 0 {
		c.in = nil // an idle connection holds no buffer
	} else {
		c.in = append([]byte(nil), in...)
	}
	return nil
}

// handshake answers a complete request, and returns the bytes after it.
func (f *floor) handshake(fd int, c *floorConn, in []byte) ([]byte, error) {
	head, rest, ok := bytes.Cut(in, []byte("\r\n\r\n"))
	if !ok {
		return in, nil
	}
	_, key, _ := strings.Cut(string(head), "Sec-WebSocket-Key: ")
	key, _, _ = strings.Cut(key, "\r\n")
	_, room, _ := strings.Cut(string(head), "?room=")
	room, _, _ = strings.Cut(room, " ")
	//nolint:gosec // RFC 6455 section 4.2.2 asks for it
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err := unix.Write(fd, fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		http.StatusSwitchingProtocols, "Switching Protocols", base64.StdEncoding.EncodeToString(sum[:])))
	if err != nil {
		return nil, os.NewSyscallError("write", err)
	}
	r := f.rooms[room]
	if r == nil {
		r = &floorRoom{}
		f.rooms[room] = r
	}
	r.members = append(r.members, fd)
	c.room = r
	return rest, nil
}

// unmask unmasks the text frame at the start of b in place, and returns its
// payload, if it is complete and at most 64 KiB long.
func unmask(b []byte) (payload, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, b, false
	}
	at, n := 2, int(b[1]&0x7f)
	if n == 126 {
		if len(b) < 4 {
			return nil, b, false
		}
		at, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	}
	if len(b) < at+4+n {
		return nil, b, false
	}
	mask, payload := b[at:at+4], b[at+4:at+4+n]
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
	return payload, b[at+4+n:], true
}

func (f *floor) deliver(r *floorRoom, payload []byte) {
	if f.join && len(r.pending) == 0 {
		f.dirty = append(f.dirty, r)
	}
	if n := len(payload); n < 126 {
		r.pending = append(r.pending, 0x81, byte(n))
	} else {
		r.pending = binary.BigEndian.AppendUint16(append(r.pending, 0x81, 126), uint16(n))
	}
	r.pending = append(r.pending, payload...)
	if !f.join {
		f.write(r, r.pending)
		r.pending = r.pending[:0]
	}
}

// write sends b to every member. It waits if a socket is full, but the
// benchmark's bounded window prevents that.
func (f *floor) write(r *floorRoom, b []byte) {
	for _, fd := range r.members {
		for left := b; len(left) > 0; {
			n, err := unix.Write(fd, left)
			switch {
			case errors.Is(err, unix.EAGAIN):
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 1000)
			case errors.Is(err, unix.EINTR):
			case err != nil:
				left = nil // the client has gone
			default:
				left = left[n:]
			}
		}
	}
}
