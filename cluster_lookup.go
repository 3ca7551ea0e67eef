package chathub

import (
	"context"
	"time"

	"github.com/chathub-go/chathub/internal/note"
)

// look asks all peers who is in some rooms that nobody of this hub was in.
type look struct {
	id      uint64
	since   time.Time
	rooms   []string
	waiting map[string]bool // peers that have not answered
	err     error           // some are not waited for
	done    []chan error    // told when it is over; each holds one
}

// lookInto has peers say who is in a room. Done, unless it is nil, is told when they
// have; the caller holds the room's topic until then.
func (l *loop) lookInto(name string, done chan error) {
	r := l.rooms[name]
	if len(l.peers.all) == 0 || r != nil && r.looked {
		if done != nil {
			done <- nil
		}
		return
	}
	if r == nil {
		r = l.newRoom(name)
	}
	if r.look == nil {
		if l.peers.next == nil {
			l.peers.next = &look{}
		}
		r.look = l.peers.next
		r.look.rooms = append(r.look.rooms, name)
	}
	if done != nil {
		r.look.done = append(r.look.done, done)
	}
	l.startLook()
}

// lookInto waits until peers have said who is in a room, a second or two at most. The
// caller has acquired its topic.
func (h *Hub) lookInto(ctx context.Context, room string) error {
	if h.nodeCount.Load() == 0 {
		return nil
	}
	done := make(chan error, 1)
	if err := h.post(call(func(l *loop) { l.lookInto(room, done) })); err != nil {
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

// startLook asks the next question, if none is under way: what comes meanwhile goes
// into the one after it, so that many joins do not make many questions.
func (l *loop) startLook() {
	k := l.peers.next
	if k == nil || l.peers.look != nil {
		return
	}
	l.peers.look, l.peers.next = k, nil
	k.id, k.since = l.question(), l.now()
	k.waiting = make(map[string]bool)
	for id, p := range l.peers.all {
		if p.silent {
			k.err = errNodeSilent
		} else {
			k.waiting[id] = true
		}
	}
	n := &note.Note{Op: note.OpCheck, ID: k.id, Fresh: true}
	for _, name := range k.rooms {
		n.Marks = append(n.Marks, note.Mark{Room: name})
	}
	l.say(Topic{}, n)
	if len(k.waiting) == 0 {
		l.endLook()
	}
}

// looked notes that a peer has answered a look, or that it will not (0).
func (l *loop) looked(p *peer, id uint64) {
	k := l.peers.look
	if k == nil || id != 0 && id != k.id || !k.waiting[p.id] {
		return
	}
	if delete(k.waiting, p.id); len(k.waiting) == 0 {
		l.endLook()
	}
}

var errNodeSilent = errorf(CodeUnavailable, "A node did not answer")

// sweepLook gives up who does not answer: the next one does not wait for it.
func (l *loop) sweepLook(now time.Time) {
	k := l.peers.look
	if k == nil || now.Sub(k.since) < sweepInterval {
		return
	}
	for id := range k.waiting {
		l.peers.all[id].silent = true
	}
	k.err = errNodeSilent
	l.endLook()
}

func (l *loop) endLook() {
	k := l.peers.look
	l.peers.look = nil
	for _, name := range k.rooms {
		if r := l.rooms[name]; r != nil && r.look == k {
			r.look, r.looked = nil, k.err == nil
		}
	}
	for _, done := range k.done {
		done <- k.err
	}
	l.startLook()
}

func (l *loop) question() uint64 {
	l.peers.questions++
	return l.peers.questions
}
