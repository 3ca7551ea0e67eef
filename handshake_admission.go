package chathub

import (
	"net/netip"
	"sync"

	"github.com/chathub-go/chathub/internal/wire"
)

// entrance counts connections against the limits, from the handshake on. It may
// be used by any goroutine.
type entrance struct {
	cfg *Config

	mu       sync.Mutex
	closed   bool
	empty    chan struct{} // closed when nobody is left after close
	inside   int
	refusing int
	addrs    map[netip.Addr]int // kept only where there is a limit
	users    map[string]*visitor
	conns    map[*wire.Conn]struct{}
}

// visitor is a user as the limits see it.
type visitor struct {
	conns   int         // under entrance.mu
	limiter lateLimiter // of events, over all its connections
	inflate lateLimiter // of compressed bytes
}

// maxRefusing bounds the handshakes over a limit that are being told so over a
// WebSocket; beyond it they are refused in plain HTTP.
const maxRefusing = 256

func (e *entrance) init(cfg *Config) {
	e.cfg = cfg
	e.empty = make(chan struct{})
	e.addrs = make(map[netip.Addr]int)
	e.users = make(map[string]*visitor)
	e.conns = make(map[*wire.Conn]struct{})
}

var errShuttingDown = errorf(CodeUnavailable, "Server is shutting down")

// errFull is the refusal for the limit that is nobody's own fault.
var errFull = errorf(CodeLimitExceeded, "Too many connections")

// enter takes a place for a handshake from addr; leave gives it back.
func (e *entrance) enter(addr netip.Addr) *Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	limited := e.limits(addr)
	addr = network(addr)
	switch {
	case e.closed:
		return errShuttingDown
	case e.cfg.MaxConns >= 0 && e.inside >= e.cfg.MaxConns:
		return errFull
	case limited && e.addrs[addr] >= e.cfg.MaxConnsPerAddress:
		return errorf(CodeLimitExceeded, "Too many connections from this address")
	}
	e.inside++
	if limited {
		e.addrs[addr]++
	}
	return nil
}

// limits reports whether connections from addr are counted. One over a Unix
// socket has no address.
func (e *entrance) limits(addr netip.Addr) bool {
	return e.cfg.MaxConnsPerAddress >= 0 && addr.IsValid()
}

// network returns what addresses are counted by: for IPv6 the /64.
func network(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr
}

func (e *entrance) leave(addr netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inside--
	if e.limits(addr) {
		addr = network(addr)
		if e.addrs[addr]--; e.addrs[addr] <= 0 {
			delete(e.addrs, addr)
		}
	}
	e.checkEmpty()
}

// enterRefused takes a place for a handshake that enter has refused, so that the
// client can be told; leaveRefused gives it back.
func (e *entrance) enterRefused() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.refusing >= maxRefusing {
		return false
	}
	e.refusing++
	return true
}

func (e *entrance) leaveRefused() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refusing--
	e.checkEmpty()
}

// enterUser counts a connection of a user, and returns what all of them share.
func (e *entrance) enterUser(id string) (*visitor, *Error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.users[id]
	if v == nil {
		v = &visitor{}
		e.users[id] = v
	}
	if e.cfg.MaxConnsPerUser >= 0 && v.conns >= e.cfg.MaxConnsPerUser {
		return nil, errorf(CodeLimitExceeded, "Too many connections of this user")
	}
	v.conns++
	return v, nil
}

func (e *entrance) leaveUser(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v := e.users[id]; v != nil {
		if v.conns--; v.conns <= 0 {
			delete(e.users, id)
		}
	}
}

// hold and drop keep the set of open connections, for abort.
func (e *entrance) hold(c *wire.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conns[c] = struct{}{}
}

func (e *entrance) drop(c *wire.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
}

// close lets nobody in any more, and returns a channel that closes when
// everybody has left.
func (e *entrance) close() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.checkEmpty()
	return e.empty
}

func (e *entrance) checkEmpty() {
	if e.closed && e.inside == 0 && e.refusing == 0 {
		select {
		case <-e.empty:
		default:
			close(e.empty)
		}
	}
}

// abort breaks every open connection.
func (e *entrance) abort() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		c.Abort()
	}
}
