package wire

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// Poller waits for the input of any number of connections on one goroutine,
// instead of one for each. The zero value is ready. If the system refuses what
// it needs, no connection is parked.
type Poller struct {
	once  sync.Once
	file  *os.File        // an epoll instance, watched by the runtime's; nil if there is none
	rc    syscall.RawConn // of file
	ended chan struct{}

	mu     sync.Mutex
	parked []*Conn // by file descriptor
}

// start runs the Poller when the first connection is parked. Hubs without
// sockets, as in tests, need none.
func (p *Poller) start() {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return
	}
	_ = syscall.SetNonblock(fd, true) // so that the runtime watches it
	file := os.NewFile(uintptr(fd), "epoll")
	if p.rc, err = file.SyscallConn(); err != nil {
		_ = file.Close()
		return
	}
	p.file, p.ended = file, make(chan struct{})
	go p.run()
}

// Close ends the Poller. From then on, no connection is parked.
func (p *Poller) Close() {
	p.once.Do(func() {})
	if p.file != nil {
		_ = p.file.Close() // this ends run
		<-p.ended
	}
}

func (p *Poller) run() {
	defer close(p.ended)
	events := make([]syscall.EpollEvent, 128)
	for {
		n := 0
		err := p.rc.Read(func(fd uintptr) bool {
			var err error
			n, err = restarted(func() (int, error) { return syscall.EpollWait(int(fd), events, 0) })
			return n > 0 || err != nil
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:max(n, 0)] {
			if c := p.at(int(e.Fd)); c != nil {
				c.wake()
			}
		}
	}
}

func (p *Poller) at(fd int) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd >= len(p.parked) {
		return nil
	}
	return p.parked[fd]
}

// park makes s wake at the next input of c, or at once if there is input, and
// reports whether it did. An event of an earlier connection with the same
// descriptor may come late. Then s is woken in vain.
func (p *Poller) park(c *Conn, s Sleeper) bool {
	p.once.Do(p.start)
	if p.file == nil {
		return false
	}
	parked := false
	_ = c.sock.rc.Control(func(fd uintptr) { // not called if it is closed
		op := syscall.EPOLL_CTL_ADD
		if c.rest.known { // closing the descriptor removes it
			op = syscall.EPOLL_CTL_MOD
		}
		// These come first: c may be woken at once, and then belongs to another
		// goroutine.
		c.rest.known = true
		p.remember(int(fd), c, s)
		e := syscall.EpollEvent{
			Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT,
			Fd:     int32(fd),
		}
		err := p.control(op, &e)
		if parked = err == nil || p.take(c) == nil; !parked {
			c.rest.known = op == syscall.EPOLL_CTL_MOD
		}
	})
	return parked
}

// control changes what the epoll instance watches.
func (p *Poller) control(op int, e *syscall.EpollEvent) (err error) {
	failed := p.rc.Control(func(fd uintptr) { err = syscall.EpollCtl(int(fd), op, int(e.Fd), e) })
	return errors.Join(failed, err)
}

func (p *Poller) remember(fd int, c *Conn, s Sleeper) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd >= len(p.parked) {
		p.parked = append(p.parked, make([]*Conn, fd+1-len(p.parked))...)
	}
	p.parked[fd] = c
	c.rest.fd, c.rest.sleeper = fd, s
}

// take returns the Sleeper to wake for c, once, or nil if c is not parked.
func (p *Poller) take(c *Conn) Sleeper {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := c.rest.sleeper
	if s != nil {
		c.rest.sleeper = nil
		p.parked[c.rest.fd] = nil
	}
	return s
}
