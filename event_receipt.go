package chathub

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/go-json-experiment/json"
)

// receipts gathers how far users have read, to tell the members of their rooms.
// Any goroutine may use it.
type receipts struct {
	hub *Hub

	mu      sync.Mutex
	rooms   map[string]*gathered // by scoped name
	stopped bool
	sending sync.WaitGroup
}

// gathered is what the members of a room are about to be told.
type gathered struct {
	users map[string]uint64 // positions
	timer *time.Timer
}

// tellReceipt tells the members of a room, soon, how far the client's user has
// read. If the client is not one of them, or if there are too many, it does
// nothing.
func (c *Client) tellReceipt(room string, seq uint64) {
	if !c.hub.cfg.ReadReceipts || room == "" || !c.inRoom(room) {
		return
	}
	rc := &c.hub.receipts
	room = c.world().scoped(room)
	if rc.add(room, c.User().ID, seq, false) {
		return
	}
	// If the client leaves before they are sent, this node may not know how
	// many users there are.
	if known, tooMany := rc.look(room); known && !tooMany {
		rc.add(room, c.User().ID, seq, true)
	}
}

// add adds a receipt to those of a room. If there are none yet, it does so only
// if begin is set. It reports whether it did.
func (rc *receipts) add(room, user string, seq uint64, begin bool) bool {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	g := rc.rooms[room]
	if g == nil {
		if rc.stopped || !begin {
			return false
		}
		wait := rc.hub.cfg.PresenceInterval
		if wait < 0 {
			wait = mergeTime
		}
		g = &gathered{users: make(map[string]uint64), timer: time.AfterFunc(wait, func() { rc.send(room) })}
		if rc.rooms == nil {
			rc.rooms = make(map[string]*gathered)
		}
		rc.rooms[room] = g
	}
	g.users[user] = max(seq, g.users[user])
	return true
}

// look reports whether this node knows who is in a room, and whether these are
// too many.
func (rc *receipts) look(room string) (known, tooMany bool) {
	err := rc.hub.onLoop(func(l *loop) {
		if r := l.rooms[room]; r != nil {
			known, tooMany = true, l.countsOnly(&r.presence)
		}
	})
	return known && err == nil, tooMany
}

// take returns what has been gathered for a room. If there is anything, the
// caller calls sending.Done.
func (rc *receipts) take(room string) map[string]uint64 {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	g := rc.rooms[room]
	if g == nil || rc.stopped {
		return nil
	}
	delete(rc.rooms, room)
	rc.sending.Add(1)
	return g.users
}

// send tells the members of a room what has been gathered.
func (rc *receipts) send(room string) {
	users := rc.take(room)
	if users == nil {
		return
	}
	defer rc.sending.Done()
	if _, tooMany := rc.look(room); tooMany {
		return
	}
	type receipt struct {
		ID  string `json:"id"`
		Seq uint64 `json:"seq"`
	}
	list := make([]receipt, 0, len(users))
	for _, id := range slices.Sorted(maps.Keys(users)) {
		list = append(list, receipt{id, users[id]})
	}
	data, err := json.Marshal(map[string]any{"users": list})
	if err != nil {
		return // numbers and strings: it cannot be
	}
	env := envelope{typ: eventRead, room: plain(room), ts: timestamp(), data: data}
	ctx, cancel := rc.hub.brokerContext()
	defer cancel()
	// At most once, as presence.
	_ = rc.hub.sendVolatile(ctx, Message{Topic: Topic{Room: room}, Body: env.body(&note.Routed{})})
}

// stop ends everything, once the hub's context has ended.
func (rc *receipts) stop() {
	rc.mu.Lock()
	rc.stopped = true
	for _, g := range rc.rooms {
		g.timer.Stop()
	}
	rc.rooms = nil
	rc.mu.Unlock()
	rc.sending.Wait()
}
