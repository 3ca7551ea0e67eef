package chathub

import (
	"context"
	"errors"

	"github.com/chathub-go/chathub/internal/note"
)

// sendVolatile sends an event that is not kept. If the broker is unavailable,
// at least the clients of this hub get it.
func (h *Hub) sendVolatile(ctx context.Context, m Message) error {
	err := h.session.Send(ctx, m)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != CodeUnavailable || ctx.Err() != nil || h.checkOpen() != nil {
		return err
	}
	h.deliver(m)
	return nil
}

// deliver is called by the broker with every message for this hub.
func (h *Hub) deliver(m Message) {
	if note.IsNote(m.Body) {
		h.hearNote(m)
		return
	}
	d := &incoming{topic: m.Topic, seq: m.Seq}
	if err := d.Decode(m.Body); err != nil {
		h.log.Error("chathub: message from another node cannot be read", "topic", m.Topic, "seq", m.Seq, "err", err)
		return
	}
	if d.Emits() {
		if isMarker(m.Name) {
			d.frame = markerFrame(d.Body, m.Seq, m.Time)
		} else {
			d.frame = frameOf(d.Body, m.Seq, m.Time)
		}
		d.compressed = h.compressShared(d.frame)
		if m.Seq == 0 && m.Topic.Room != "" {
			d.typing = typingOf(d.Body)
		}
	}
	if d.Emits() {
		h.tails.show(&m)
	}
	_ = h.post(d) // a closed hub has nobody to deliver to
	if m.Seq > 0 {
		h.follows.wake(m.Topic)
	}
}
