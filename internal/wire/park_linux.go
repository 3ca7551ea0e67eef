package wire

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// Poller waits for the input of any number of connections on one goroutine, where
// otherwise each of them needs its own. The zero value is ready. Where the system refuses
// what it needs, nothing is parked.
type Poller struct {
	once  sync.Once
	file  *os.File        // an epoll instance, itself watched by the runtime's; nil: none
	rc    syscall.RawConn // its
	ended chan struct{}

	mu     sync.Mutex
	parked []*Conn // by file descriptor
}

// start runs the Poller, with the first connection that is parked: hubs without
// sockets, as in tests, have none.
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

// Close ends the Poller. No connection is parked from then on.
func (p *Poller) Close() {
	p.once.Do(func() {})
	if p.file != nil {
		_ = p.file.Close() // which ends run
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

// park has s woken by the next input of c, or by what is there already, and reports
// whether it has. An event of an earlier connection with the same descriptor may come late:
// then s is woken in vain.
func (p *Poller) park(c *Conn, s Sleeper) bool {
	p.once.Do(p.start)
	if p.file == nil {
		return false
	}
	parked := false
	_ = c.sock.rc.Control(func(fd uintptr) { // not called where that is closed
		op := syscall.EPOLL_CTL_ADD
		if c.rest.known { // closing the descriptor takes it out
			op = syscall.EPOLL_CTL_MOD
		}
		// First, since it may be woken at once, and then it is another goroutine's.
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

// take returns who is to be woken for c, once; nil where it is not parked.
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
