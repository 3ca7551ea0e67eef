package chathub

import (
	"context"

	"github.com/chathub-go/chathub/internal/note"
)

// Settle waits until every node has dealt with the log of a room up to seq, the
// position of a stored message, as in its [Receipt]. On each node, the members
// of the room have then been sent everything up to there, and every running
// [Hub.Follow] of the room has called its function for it, and the function has
// returned. A node without members and without a Follow has nothing to do.
//
// So an application that keeps something in memory on every node by Follow can
// change it and know when the change holds everywhere.
//
// If a node does not confirm that within Config.NodeLease, or before ctx ends,
// the error is an [Error] with [CodeUnavailable]. Settle must not be called in
// the function of a Follow of the same room, since it would wait for itself.
func (h *Hub) Settle(ctx context.Context, room string, seq uint64) error {
	return h.Tenant("").Settle(ctx, room, seq)
}

// Settle waits until every node has dealt with the log of a room. See
// [Hub.Settle].
func (t Tenant) Settle(ctx context.Context, room string, seq uint64) error {
	topic, err := t.room(room)
	if err != nil {
		return err
	}
	h := t.hub
	ctx, cancel := context.WithTimeout(ctx, h.cfg.NodeLease)
	defer cancel()
	var q *inquiry
	if err := h.onLoop(func(l *loop) {
		if len(l.nodes.all) > 0 {
			q = l.startInquiry(ctx, &note.Note{Op: note.OpSettle, Room: topic.Room, Seq: seq})
		}
	}); err != nil {
		return err
	}
	err = h.settled(ctx, topic, seq)
	if q != nil {
		if silent := q.wait(ctx, h); err == nil {
			err = silent
		}
	}
	return err
}

// settled waits until this hub has dealt with the log of a room up to seq.
func (h *Hub) settled(ctx context.Context, t Topic, seq uint64) error {
	w := h.follows.watch(t)
	defer h.follows.remove(t, w)
	for {
		behind := h.follows.behind(t, seq)
		if !behind {
			if err := h.onLoop(func(l *loop) {
				r := l.rooms[t.Room]
				behind = r != nil && r.pos != Position{} && r.pos.Seq < seq
			}); err != nil {
				return err
			}
		}
		if !behind {
			return nil
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return Unavailable(ctx.Err())
		case <-h.life.done:
			return ErrClosed
		}
	}
}

// hearSettle answers when this hub has dealt with a log up to a position.
func (l *loop) hearSettle(from *node, n *note.Note) {
	ctx, cancel := context.WithTimeout(l.hub.life.ctx, l.cfg.NodeLease)
	confirm := l.promise(from, n, cancel)
	if confirm == nil {
		cancel()
		return
	}
	go func() {
		defer cancel()
		if l.hub.settled(ctx, Topic{Room: n.Room}, n.Seq) == nil {
			_ = l.hub.post(confirm) // a closed hub has said goodbye
		}
	}()
}
