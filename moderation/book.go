package moderation

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// book is all decisions, in memory. Any goroutine may use it.
type book struct {
	mu        sync.RWMutex
	slots     map[slot]*page
	decisions map[id]*Decision
	users     map[person]int // decisions about each user
	tenants   map[string]int // decisions of each tenant
}

// person is a user of a tenant, and place a room of one. The tenant of a hub
// without tenants is empty.
type (
	person struct{ tenant, user string }
	place  struct{ tenant, room string }
)

// page is what a slot of the store had at a version.
type page struct {
	epoch     string // of the log of the shard
	seq       uint64
	decisions []*Decision
}

func (b *book) init() {
	b.slots = make(map[slot]*page)
	b.decisions = make(map[id]*Decision)
	b.users = make(map[person]int)
	b.tenants = make(map[string]int)
}

// replace takes in what a slot has, unless it is older than what is known.
func (b *book) replace(at slot, now page) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.slots[at]; old != nil {
		isAnotherLog := old.epoch != now.epoch
		if now.seq <= old.seq && !isAnotherLog {
			return
		}
		for _, d := range old.decisions {
			delete(b.decisions, d.id())
			b.count(d, -1)
		}
	}
	b.slots[at] = &now
	for _, d := range now.decisions {
		b.decisions[d.id()] = d
		b.count(d, 1)
	}
}

func (b *book) count(d *Decision, n int) {
	user := person{d.tenant, d.User}
	if b.users[user] += n; b.users[user] == 0 {
		delete(b.users, user)
	}
	if b.tenants[d.tenant] += n; b.tenants[d.tenant] == 0 {
		delete(b.tenants, d.tenant)
	}
}

// has reports whether there is a decision, and how many its tenant has.
func (b *book) has(i id) (known bool, ofTenant int) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.decisions[i] != nil, b.tenants[i.tenant]
}

// at returns the decisions that a slot is known to have.
func (b *book) at(s slot) []*Decision {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if p := b.slots[s]; p != nil {
		return p.decisions
	}
	return nil
}

// about returns a decision about a user that holds in a room: that of the room,
// or else the one of the whole service.
func (b *book) about(kind Kind, user person, room string) *Decision {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.users[user] == 0 {
		return nil
	}
	now := time.Now()
	if room != "" {
		if d := b.decisions[id{user.tenant, kind, room, user.user}]; d.holds(now) {
			return d
		}
	}
	if d := b.decisions[id{user.tenant, kind, "", user.user}]; d.holds(now) {
		return d
	}
	return nil
}

// bannedFrom returns the rooms that a user is banned from.
func (b *book) bannedFrom(user person) (rooms []string) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.users[user] == 0 {
		return nil
	}
	now := time.Now()
	for _, d := range b.decisions {
		if d.Kind == Ban && d.Room != "" && d.tenant == user.tenant && d.User == user.user && d.holds(now) {
			rooms = append(rooms, d.Room)
		}
	}
	return rooms
}

// ofRoom returns a decision about a room that holds.
func (b *book) ofRoom(kind Kind, at place) *Decision {
	b.mu.RLock()
	d := b.decisions[id{tenant: at.tenant, kind: kind, room: at.room}]
	b.mu.RUnlock()
	if d == nil || !d.holds(time.Now()) {
		return nil
	}
	return d
}

// slowIn returns the time between two messages in a room. 0: it is not slow.
func (b *book) slowIn(at place) time.Duration {
	if d := b.ofRoom(Slow, at); d != nil {
		return d.Every
	}
	return 0
}

// in returns the decisions that hold in a room, newest first.
func (b *book) in(at place) (all []Decision) {
	b.mu.RLock()
	now := time.Now()
	for _, d := range b.decisions {
		if d.Room == at.room && d.tenant == at.tenant && d.holds(now) {
			all = append(all, *d)
		}
	}
	b.mu.RUnlock()
	slices.SortFunc(all, func(x, y Decision) int {
		return cmp.Or(y.At.Compare(x.At), cmp.Compare(x.User, y.User), cmp.Compare(x.Kind, y.Kind))
	})
	return all
}
