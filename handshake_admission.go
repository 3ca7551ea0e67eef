package chathub

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/wire"
)

// admission counts connections against the limits, from the handshake on. Its
// methods may be called from any goroutine.
type admission struct {
	cfg *Config

	mu     sync.Mutex
	closed bool
	empty  chan struct{} // closed once no connection is left after close
	places [stageCount]int
	addrs  map[netip.Addr]int     // only if there is a limit
	users  map[string]*userLimits // by scoped id
	// tenants are those that have clients.
	tenants map[world]*tenant
	// resting are the users without connections whose limits are not back at
	// their bursts yet.
	resting list.List
	conns   map[*wire.Conn]struct{}
}

// stage is how far a connection has come.
type stage uint8

const (
	handshaking stage = iota // not authenticated yet
	admitted                 // authenticated, until it ends
	refusing                 // is told on a WebSocket that it is refused
	stageCount
)

// maxRefusing bounds the connections that are refused on a WebSocket. Beyond
// it, they are refused in plain HTTP.
const maxRefusing = 256

func (adm *admission) init(cfg *Config) {
	adm.cfg = cfg
	adm.empty = make(chan struct{})
	adm.addrs = make(map[netip.Addr]int)
	adm.users = make(map[string]*userLimits)
	adm.tenants = make(map[world]*tenant)
	adm.conns = make(map[*wire.Conn]struct{})
}

var errShuttingDown = errorf(CodeUnavailable, "Server is shutting down")

// errServerFull refuses a client because of Config.MaxConns. Unlike the other
// limits, that one is not the client's own.
var errServerFull = errorf(CodeLimitExceeded, "Too many connections")

// place is what a connection takes up of the limits, from the handshake on. Its
// holder must release it exactly once.
type place struct {
	adm    *admission
	user   *userLimits // nil until it is admitted
	tenant *tenant     // nil until then, and if there is none
	addr   *netip.Addr // key in admission.addrs; nil: not counted
	stage  stage
}

// enter takes a place for a handshake from addr. It fails if a limit is reached
// or the hub is shutting down. Strangers have a limit of their own, so that
// they take no place of MaxConns.
func (adm *admission) enter(addr netip.Addr) (place, *Error) {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	p := place{adm: adm}
	if adm.cfg.MaxConnsPerAddress >= 0 && addr.IsValid() { // a Unix socket has no address
		counted := network(addr)
		p.addr = &counted
	}
	switch {
	case adm.closed:
		return place{}, errShuttingDown
	case adm.cfg.MaxHandshakes >= 0 && adm.places[handshaking] >= adm.cfg.MaxHandshakes:
		return place{}, &Error{Code: CodeUnavailable, Message: "Too many handshakes", RetryAfter: time.Second}
	case p.addr != nil && adm.addrs[*p.addr] >= adm.cfg.MaxConnsPerAddress:
		return place{}, errorf(CodeLimitExceeded, "Too many connections from this address")
	}
	adm.places[handshaking]++
	if p.addr != nil {
		adm.addrs[*p.addr]++
	}
	return p, nil
}

// network returns the key under which an address is counted: for IPv6, its /64.
func network(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr
}

// admit counts the connection for its user, who is authenticated.
func (pl *place) admit(of world, userID string) *Error {
	adm := pl.adm
	adm.mu.Lock()
	defer adm.mu.Unlock()
	adm.forgetRested(time.Now())
	if adm.cfg.MaxConns >= 0 && adm.places[admitted] >= adm.cfg.MaxConns {
		return errServerFull
	}
	t := adm.tenants[of]
	if t != nil && adm.cfg.MaxConnsPerTenant >= 0 && t.conns >= adm.cfg.MaxConnsPerTenant {
		return errorf(CodeLimitExceeded, "Too many connections of this tenant")
	}
	scoped := of.scoped(userID)
	u := adm.users[scoped]
	if u == nil {
		u = &userLimits{id: scoped}
		adm.users[scoped] = u
	}
	if adm.cfg.MaxConnsPerUser >= 0 && int(u.conns) >= adm.cfg.MaxConnsPerUser {
		return errorf(CodeLimitExceeded, "Too many connections of this user")
	}
	pl.user = u
	if u.conns++; of != "" {
		if t == nil {
			t = &tenant{world: of}
			adm.tenants[of] = t
		}
		t.conns++
		if u.conns == 1 {
			t.users++
		}
		pl.tenant = t
	}
	pl.move(admitted)
	return nil
}

// refuse makes the place, which may be the zero value, one for telling the
// client on a WebSocket that it is refused. It reports false if too many are
// being told already.
func (adm *admission) refuse(p *place) bool {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	if adm.closed || adm.places[refusing] >= maxRefusing {
		return false
	}
	if p.adm == nil {
		*p = place{adm: adm, stage: refusing}
		adm.places[refusing]++
		return true
	}
	p.leaveUser()
	p.move(refusing)
	return true
}

// move changes the stage. It needs the lock, as do the two below.
func (pl *place) move(to stage) {
	pl.adm.places[pl.stage]--
	pl.adm.places[to]++
	pl.stage = to
}

// leaveUser ends what admit has begun. The limits of a user outlive the last
// connection until they are back at their bursts: else a reconnect would renew
// them.
func (pl *place) leaveUser() {
	u := pl.user
	if u == nil {
		return
	}
	pl.user = nil
	u.conns--
	if t := pl.tenant; t != nil { // which stays: clients know it by this
		if u.conns == 0 {
			t.users--
		}
		if t.conns--; t.conns == 0 {
			delete(pl.adm.tenants, t.world)
		}
	}
	if u.conns > 0 {
		return
	}
	switch {
	case u.resting: // forgetRested will come to it
	case u.rested(time.Now()):
		delete(pl.adm.users, u.id)
	default:
		u.resting = true
		pl.adm.resting.PushBack(u)
	}
}

// statsOf returns the figures of a tenant, or of those without one.
func (adm *admission) statsOf(w world) (stats Stats) {
	adm.mu.Lock()
	defer adm.mu.Unlock()
	if t := adm.tenants[w]; t != nil {
		return Stats{Connections: t.conns, Users: t.users}
	}
	if w != "" {
		return stats
	}
	stats.Connections = adm.places[admitted]
	for _, u := range adm.users {
		if u.conns > 0 {
			stats.Users++
		}
	}
	for _, t := range adm.tenants {
		stats.Connections -= t.conns
		stats.Users -= t.users
	}
	return stats
}

// forgetRested forgets users whose limits mean nothing any more. It looks at
// two, which is more than one connection can leave.
func (adm *admission) forgetRested(now time.Time) {
	for range 2 {
		front := adm.resting.Front()
		if front == nil {
			return
		}
		u := front.Value.(*userLimits)
		switch {
		case u.conns > 0:
			u.resting = false
			adm.resting.Remove(front)
		case u.rested(now):
			adm.resting.Remove(front)
			delete(adm.users, u.id)
		default:
			adm.resting.MoveToBack(front)
		}
	}
}

// release gives the place back. The zero value has none.
func (pl *place) release() {
	adm := pl.adm
	if adm == nil {
		return
	}
	adm.mu.Lock()
	defer adm.mu.Unlock()
	pl.leaveUser()
	adm.places[pl.stage]--
	if pl.addr != nil {
		if adm.addrs[*pl.addr]--; adm.addrs[*pl.addr] <= 0 {
			delete(adm.addrs, *pl.addr)
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
	if adm.closed && adm.places == [stageCount]int{} {
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
