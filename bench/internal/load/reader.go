//go:build linux

package load

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// reader reads from many sockets on one thread.
type reader struct {
	fleet *Fleet
	ep    int
	table []atomic.Pointer[Conn]
	used  atomic.Int64
	done  chan struct{}
}

const (
	readerBuffer = 256 << 10
	readerEvents = 512
	// readerWait is the longest time that a reader waits for bytes, so that it
	// notices the end.
	readerWait = 100 // ms
)

func newReader(f *Fleet, capacity int) (*reader, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	r := &reader{fleet: f, ep: ep, table: make([]atomic.Pointer[Conn], capacity), done: make(chan struct{})}
	go r.run()
	return r, nil
}

// add starts reading from c.
func (r *reader) add(c *Conn) error {
	i := int(r.used.Add(1)) - 1
	if i >= len(r.table) {
		return errors.New("more clients than the fleet was made for")
	}
	c.reader, c.index = r, i
	r.table[i].Store(c)
	return r.resume(c)
}

func (r *reader) resume(c *Conn) error {
	// Edge-triggered: after a read that did not fill the buffer, new bytes are
	// a new event. So one read per event is enough.
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(c.index)}
	return unix.EpollCtl(r.ep, unix.EPOLL_CTL_ADD, c.fd, &e)
}

// pause stops reading from c.
func (r *reader) pause(c *Conn) error {
	return unix.EpollCtl(r.ep, unix.EPOLL_CTL_DEL, c.fd, nil)
}

func (r *reader) run() {
	runtime.LockOSThread()
	defer close(r.done)
	buf := make([]byte, readerBuffer)
	events := make([]unix.EpollEvent, readerEvents)
	for !r.fleet.closing.Load() {
		n, err := unix.EpollWait(r.ep, events, readerWait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			r.fleet.lose(fmt.Errorf("epoll_wait: %w", err))
			return
		}
		for i := range max(n, 0) {
			r.read(r.table[events[i].Fd].Load(), buf)
		}
		if n > 0 {
			r.fleet.pump()
		}
	}
}

func (r *reader) read(c *Conn, buf []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed.Load() {
		n, err := unix.Read(c.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			c.end(fmt.Errorf("read: %w", err))
			return
		case n == 0:
			c.end(fmt.Errorf("read: %w", io.EOF))
			return
		}
		c.feed(buf[:n])
		if n < len(buf) {
			return
		}
	}
}
