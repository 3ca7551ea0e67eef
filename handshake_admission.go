package chathub

import (
	"net/netip"
	"sync"

	"github.com/chathub-go/chathub/internal/wire"
)

// admission counts connections against the limits, from the handshake on. Its
// methods may be called from any goroutine.
type admission struct {
	cfg *Config

	mu        sync.Mutex
	closed    bool
	empty     chan struct{} // closed once no connection is left after close
	connected int
	refusals  int
	addrs     map[netip.Addr]int // only if there is a limit
	users     map[string]*userLimits
	conns     map[*wire.Conn]struct{}
}

// userLimits holds the limits that all connections of a user share.
type userLimits struct {
	conns   int         // guarded by admission.mu
	limiter lazyLimiter // of events
	inflate lazyLimiter // of compressed bytes
}

// maxRefusals bounds the number of handshakes over a limit that are being
// refused on a WebSocket. Beyond it, they are refused in plain HTTP.
const maxRefusals = 256

func (adm *admission) init(cfg *Config) {
	adm.cfg = cfg
	adm.empty = make(chan struct{})
	adm.addrs = make(map[netip.Addr]int)
	adm.users = make(map[string]*userLimits)
	adm.conns = make(map[*wire.Conn]struct{})
}

// errServerFull refuses a client because of Config.MaxConns. Unlike the other
// limits, that one is not the client's own.
var errServerFull = errorf(CodeLimitExceeded, "Too many connections")

// place is what a connection takes up of the limits, from the handshake on. Its
// holder must release it exactly once.
type place struct {
	adm     *admission
	refusal bool       // only to tell a client that it is refused
	addr    netip.Addr // key in admission.addrs
	user    string     // empty until enterUser
}

// enter takes a place for a handshake from addr. It fails if a limit is reached
// or the hub is shutting down.
func (adm *admission) enter(addr netip.Addr) (place, *Error) {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	limited := adm.limitsAddress(addr)
	addr = network(addr)
	switch {
	case adm.closed:
		return place{}, errorf(CodeUnavailable, "Server is shutting down")
	case adm.cfg.MaxConns >= 0 && adm.connected >= adm.cfg.MaxConns:
		return place{}, errServerFull
	case limited && adm.addrs[addr] >= adm.cfg.MaxConnsPerAddress:
		return place{}, errorf(CodeLimitExceeded, "Too many connections from this address")
	}
	adm.connected++
	if limited {
		adm.addrs[addr]++
	}
	return place{adm: adm, addr: addr}, nil
}

// limitsAddress reports whether connections from addr are counted. A connection
// over a Unix socket has no address.
func (adm *admission) limitsAddress(addr netip.Addr) bool {
	return adm.cfg.MaxConnsPerAddress >= 0 && addr.IsValid()
}

// network returns the key under which an address is counted: for IPv6, its /64.
func network(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr
}

// enterRefusal takes a place for a handshake that enter has refused, so that
// the client can be told on a WebSocket. It reports false if too many are being
// told already.
func (adm *admission) enterRefusal() (place, bool) {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	if adm.closed || adm.refusals >= maxRefusals {
		return place{}, false
	}
	adm.refusals++
	return place{adm: adm, refusal: true}, true
}

// enterUser counts the connection for its user, and returns the limits that all
// connections of the user share.
func (p *place) enterUser(id string) (*userLimits, *Error) {
	adm := p.adm
	adm.mu.Lock()
	defer adm.mu.Unlock()
	u := adm.users[id]
	if u == nil {
		u = &userLimits{}
		adm.users[id] = u
	}
	if adm.cfg.MaxConnsPerUser >= 0 && u.conns >= adm.cfg.MaxConnsPerUser {
		return nil, errorf(CodeLimitExceeded, "Too many connections of this user")
	}
	u.conns++
	p.user = id
	return u, nil
}

// release gives the place back.
func (p *place) release() {
	adm := p.adm
	adm.mu.Lock()
	defer adm.mu.Unlock()
	switch {
	case p.refusal:
		adm.refusals--
	default:
		adm.connected--
		if adm.limitsAddress(p.addr) {
			if adm.addrs[p.addr]--; adm.addrs[p.addr] <= 0 {
				delete(adm.addrs, p.addr)
			}
		}
	}
	if u := adm.users[p.user]; u != nil && p.user != "" {
		if u.conns--; u.conns <= 0 {
			delete(adm.users, p.user)
		}
	}
	adm.checkEmpty()
}

// track and untrack keep the set of open connections, for abort.
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

// close refuses all handshakes from now on. It returns a channel that is closed
// once all connections are gone.
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

// abort breaks off every open connection.
func (adm *admission) abort() {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	for c := range adm.conns {
		c.Abort()
	}
}
