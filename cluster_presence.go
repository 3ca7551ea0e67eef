package chathub

import (
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// presenceOf returns the presence of a room or, without a name, of the hub; nil
// if this hub does not have the room.
func (l *loop) presenceOf(room string) *presence {
	if room == "" {
		return &l.presence.online
	}
	if r := l.rooms[room]; r != nil {
		return &r.presence
	}
	return nil
}

// followed reports whether this hub hears and keeps what other nodes announce
// of the room.
func (r *room) followed() bool { return len(r.members) > 0 || r.known || r.lookup != nil || r.hooked }

// unfollow forgets what other nodes have announced of a room.
func (l *loop) unfollow(r *room) {
	r.presence.roster.DropAll()
	l.afterChange(&r.presence)
	r.known, r.lookup = false, nil
}

// mark is the position up to which another node's users are known.
func (p *presence) mark(of *node) note.Mark {
	return note.Mark{Room: p.room, Seq: p.roster.Known(of.id)}
}

// hearState takes in what another node has announced.
func (l *loop) hearState(from *node, n *note.Note) {
	p := l.presenceOf(n.Room)
	if p == nil && l.hooked(n.Room) {
		p = &l.newRoom(n.Room).presence
	}
	if p == nil || n.Room != "" && !l.rooms[n.Room].followed() {
		return
	}
	gap := p.roster.Hear(from.id, n, l.now())
	l.afterChange(p)
	if gap {
		l.checkOne(from, p)
	}
}

// dropReplicas forgets what a node has announced. The grace of its users begins
// at since.
func (l *loop) dropReplicas(gone *node, since time.Time) {
	drop := func(p *presence) {
		p.roster.Drop(gone.id, since)
		l.afterChange(p)
	}
	drop(&l.presence.online)
	for _, r := range l.rooms {
		drop(&r.presence)
	}
}

// announcePresence tells the other nodes what has changed here.
func (l *loop) announcePresence() {
	for _, p := range l.nodes.pending {
		p.announcing = false
		l.announce(p)
	}
	clear(l.nodes.pending)
	l.nodes.pending = l.nodes.pending[:0]
}

// announce tells the nodes that hear of p what has changed here.
func (l *loop) announce(p *presence) {
	for _, n := range p.roster.Announce() {
		n.Room = p.room
		t := Topic{Room: p.room}
		if l.hooked(p.room) {
			t = Topic{}
		}
		l.sendNote(t, n)
	}
}

// position announces what has changed in p, and returns the position after it;
// 0: nobody is here.
func (l *loop) position(p *presence) uint64 {
	l.announce(p)
	return p.roster.Position()
}

// sendWhole tells a node who is here, at the position of p.
func (l *loop) sendWhole(to *node, p *presence) {
	l.announce(p)
	n := p.roster.Whole(l.now())
	n.Room = p.room
	l.sendNote(Topic{Node: to.id}, n)
}
