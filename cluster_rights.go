package chathub

import (
	"context"

	"github.com/chathub-go/chathub/internal/note"
)

// connectingKey is the key of the client that is connecting in the ctx of its
// OnConnect.
type connectingKey struct{}

// revoke has every node carry out r, and waits until they have. In an OnConnect
// it is not for the client that is connecting, which is not there yet: so an
// application can end a user's other connections.
func (t Target) revoke(ctx context.Context, r note.Routed) error {
	if c, ok := ctx.Value(connectingKey{}).(*Client); ok {
		t = t.Except(c.id)
	}
	if err := t.act(ctx, r); err != nil {
		return err
	}
	n := t.note(note.OpRevoke)
	n.Rooms, n.Data = r.Rooms, r.Body
	var q *inquiry
	ctx, cancel := context.WithTimeout(ctx, t.hub.cfg.NodeLease)
	defer cancel()
	var published publishes
	err := t.hub.onLoop(func(l *loop) {
		// If none of this node's clients was in the topic, act has reached
		// neither the checks that are under way nor a client that just came.
		published = l.revoke(revocationOf(n), l.find(n))
		if len(t.topics) > 0 {
			// It is sent even if no node is known, since one may have just
			// started.
			q = l.startInquiry(ctx, n)
			q.endIfComplete()
		}
	})
	published.wait(t.hub)
	rightOf(ctx).renew()
	if err != nil || q == nil {
		return err
	}
	return q.wait(ctx, t.hub)
}

func revocationOf(n *note.Note) revocation {
	r := revocation{clients: n.Clients, except: n.Except, rooms: n.Rooms, reason: string(n.Data)}
	for _, t := range n.Topics {
		r.targets = append(r.targets, Topic(t))
	}
	return r
}

// hearRevoke carries out a revocation of another node, and answers when
// nothing of the right works here any more.
func (l *loop) hearRevoke(from *node, n *note.Note) {
	confirm := l.promise(from, n, func() {})
	if confirm == nil {
		return
	}
	published := l.revoke(revocationOf(n), l.find(n))
	if len(published) == 0 {
		confirm(l)
		return
	}
	go func() {
		published.wait(l.hub)
		_ = l.hub.post(confirm) // a closed hub has no clients
	}()
}
