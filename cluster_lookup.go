package chathub

import (
	"context"
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// lookup is a question to the other nodes: who is in some rooms that no client
// here was in before? It belongs to the loop.
type lookup struct {
	id      uint64
	since   time.Time
	rooms   []string
	waiting map[string]bool // nodes that have not answered
	err     error           // a node was not asked, or has not answered
	done    []chan error    // each gets err at the end, and has room for it
}

// lookUp asks the other nodes who is in a room, unless that is known. If done
// is not nil, it gets the result. The caller holds the room's topic until then.
func (l *loop) lookUp(room string, done chan error) {
	r := l.rooms[room]
	if len(l.nodes.all) == 0 || r != nil && r.known {
		if done != nil {
			done <- nil
		}
		return
	}
	if r == nil {
		r = l.newRoom(room)
	}
	if r.lookup == nil {
		if l.nodes.nextLookup == nil {
			l.nodes.nextLookup = &lookup{}
		}
		r.lookup = l.nodes.nextLookup
		r.lookup.rooms = append(r.lookup.rooms, room)
	}
	if done != nil {
		r.lookup.done = append(r.lookup.done, done)
	}
	l.startLookup()
}

// lookUp waits until the other nodes have said who is in a room, two seconds at
// most. The caller has acquired the room's topic.
func (h *Hub) lookUp(ctx context.Context, room string) error {
	if h.nodeCount.Load() == 0 {
		return nil
	}
	done := make(chan error, 1)
	if err := h.post(call(func(l *loop) { l.lookUp(room, done) })); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-h.life.done:
		return ErrClosed
	}
}

// startLookup starts the next lookup, if none is under way. Rooms that come
// meanwhile share the one after it, so that many joins do not make many notes.
func (l *loop) startLookup() {
	k := l.nodes.nextLookup
	if k == nil || l.nodes.lookup != nil {
		return
	}
	l.nodes.lookup, l.nodes.nextLookup = k, nil
	k.id, k.since = l.nodes.newID(), l.now()
	k.waiting = make(map[string]bool)
	for id, n := range l.nodes.all {
		if n.silent {
			k.err = errNodeSilent
		} else {
			k.waiting[id] = true
		}
	}
	n := &note.Note{Op: note.OpCheck, ID: k.id, Fresh: true}
	for _, room := range k.rooms {
		n.Marks = append(n.Marks, note.Mark{Room: room})
	}
	l.sendNote(Topic{}, n)
	if len(k.waiting) == 0 {
		l.endLookup()
	}
}

// newID returns the id of a lookup or an inquiry.
func (ns *nodes) newID() uint64 {
	ns.lastID++
	return ns.lastID
}

// lookupAnswered notes that a node has answered a lookup; id 0: that it will
// not.
func (l *loop) lookupAnswered(by *node, id uint64) {
	k := l.nodes.lookup
	if k == nil || id != 0 && id != k.id || !k.waiting[by.id] {
		return
	}
	if delete(k.waiting, by.id); len(k.waiting) == 0 {
		l.endLookup()
	}
}

var errNodeSilent = errorf(CodeUnavailable, "A node did not answer")

// sweepLookup gives up nodes that do not answer. The next lookup does not wait
// for them.
func (l *loop) sweepLookup(now time.Time) {
	k := l.nodes.lookup
	if k == nil || now.Sub(k.since) < sweepInterval {
		return
	}
	for id := range k.waiting {
		l.nodes.all[id].silent = true
	}
	k.err = errNodeSilent
	l.endLookup()
}

func (l *loop) endLookup() {
	k := l.nodes.lookup
	l.nodes.lookup = nil
	for _, room := range k.rooms {
		if r := l.rooms[room]; r != nil && r.lookup == k {
			r.lookup, r.known = nil, k.err == nil
		}
	}
	for _, done := range k.done {
		done <- k.err
	}
	l.startLookup()
}
