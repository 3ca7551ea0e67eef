package chathub

import (
	"net/netip"
	"sync"

	"github.com/chathub-go/chathub/internal/wire"
)

// entrance counts connections against the limits, from the handshake on. It may
// be used by any goroutine.
type admission struct {
	cfg *Config

	mu        sync.Mutex
	closed    bool
	empty     chan struct{} // closed when nobody is left after close
	connected int
	refusals  int
	addrs     map[netip.Addr]int // kept only where there is a limit
	users     map[string]*userLimits
	conns     map[*wire.Conn]struct{}
}

// visitor is a user as the limits see it.
type userLimits struct {
	conns   int         // under entrance.mu
	limiter lazyLimiter // of events, over all its connections
	inflate lazyLimiter // of compressed bytes
}

// maxRefusing bounds the handshakes over a limit that are being told so over a
// WebSocket; beyond it they are refused in plain HTTP.
const maxRefusing = 256

func (adm *admission) init(cfg *Config) {
	adm.cfg = cfg
	adm.empty = make(chan struct{})
	adm.addrs = make(map[netip.Addr]int)
	adm.users = make(map[string]*userLimits)
	adm.conns = make(map[*wire.Conn]struct{})
}

// errFull is the refusal for the limit that is nobody's own fault.
var errFull = errorf(CodeLimitExceeded, "Too many connections")

// enter takes a place for a handshake from addr; leave gives it back.
func (adm *admission) enter(addr netip.Addr) *Error {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	limited := adm.limitsAddress(addr)
	addr = network(addr)
	switch {
	case adm.closed:
		return errorf(CodeUnavailable, "Server is shutting down")
	case adm.cfg.MaxConns >= 0 && adm.connected >= adm.cfg.MaxConns:
		return errFull
	case limited && adm.addrs[addr] >= adm.cfg.MaxConnsPerAddress:
		return errorf(CodeLimitExceeded, "Too many connections from this address")
	}
	adm.connected++
	if limited {
		adm.addrs[addr]++
	}
	return nil
}

// limits reports whether connections from addr are counted. One over a Unix
// socket has no address.
func (adm *admission) limitsAddress(addr netip.Addr) bool {
	return adm.cfg.MaxConnsPerAddress >= 0 && addr.IsValid()
}

// network returns what addresses are counted by: for IPv6 the /64.
func network(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr
}

func (adm *admission) leave(addr netip.Addr) {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	adm.connected--
	if adm.limitsAddress(addr) {
		addr = network(addr)
		if adm.addrs[addr]--; adm.addrs[addr] <= 0 {
			delete(adm.addrs, addr)
		}
	}
	adm.checkEmpty()
}

// enterRefused takes a place for a handshake that enter has refused, so that the
// client can be told; leaveRefused gives it back.
func (adm *admission) enterRefusal() bool {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	if adm.closed || adm.refusals >= maxRefusing {
		return false
	}
	adm.refusals++
	return true
}

func (adm *admission) leaveRefusal() {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	adm.refusals--
	adm.checkEmpty()
}

// enterUser counts a connection of a user, and returns what all of them share.
func (adm *admission) enterUser(id string) (*userLimits, *Error) {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	v := adm.users[id]
	if v == nil {
		v = &userLimits{}
		adm.users[id] = v
	}
	if adm.cfg.MaxConnsPerUser >= 0 && v.conns >= adm.cfg.MaxConnsPerUser {
		return nil, errorf(CodeLimitExceeded, "Too many connections of this user")
	}
	v.conns++
	return v, nil
}

func (adm *admission) leaveUser(id string) {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	if v := adm.users[id]; v != nil {
		if v.conns--; v.conns <= 0 {
			delete(adm.users, id)
		}
	}
}

// hold and drop keep the set of open connections, for abort.
func (adm *admission) track(c *wire.Conn) {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	adm.conns[c] = struct{}{}
}

func (adm *admission) untrack(c *wire.Conn) {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	delete(adm.conns, c)
}

// close lets nobody in any more, and returns a channel that closes when
// everybody has left.
func (adm *admission) close() <-chan struct{} {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	adm.closed = true
	adm.checkEmpty()
	return adm.empty
}

func (adm *admission) checkEmpty() {
	if adm.closed && adm.connected == 0 && adm.refusals == 0 {
		select {
		case <-adm.empty:
		default:
			close(adm.empty)
		}
	}
}

// abort breaks every open connection.
func (adm *admission) abort() {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	for c := range adm.conns {
		c.Abort()
	}
}
