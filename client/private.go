package client

import (
	"context"
	"iter"
)

// InboxOptions are the settings of [Client.Inbox]. With the zero value, reading
// begins with the oldest message that the server has.
type InboxOptions struct {
	// Since asks for everything after a position.
	Since *Position
	// New asks only for what came after Dial. Ignored if Since is set.
	New bool
}

// Inbox is the log of this user: private messages, notifications, and the
// application's durable events for the user. All methods may be called from any
// goroutine.
type Inbox struct {
	queue  *queue
	feed   feed        // the loop's
	settle func(error) // the loop's
}

// Inbox begins to read the inbox. It returns once the server has answered,
// which may be after a reconnect, and [ErrJoined] if the inbox is read already.
// A client that does not call it gets no private messages.
//
// Private messages that this client has sent itself are not among the events.
// Those that the user has sent from elsewhere are.
func (c *Client) Inbox(ctx context.Context, o InboxOptions) (*Inbox, error) {
	in := &Inbox{queue: newQueue(c.opts.QueueBytes, c.drained)}
	in.feed = feed{queue: in.queue, known: true}
	_, err := await(ctx, c, func(l *loop, settle func(struct{}, error)) func() {
		if l.inbox != nil {
			settle(struct{}{}, ErrJoined)
			return func() {}
		}
		in.settle = func(err error) { settle(struct{}{}, err) }
		in.feed.joined = func(part) { in.settle(nil) }
		switch {
		case o.Since != nil:
			in.feed.pos = *o.Since
		case o.New:
			in.feed.pos = *l.firstInbox
		default:
			in.feed.pos = Position{Epoch: l.firstInbox.Epoch}
		}
		l.inbox = in
		l.catchUp()
		return func() { l.inbox = nil }
	})
	if err != nil {
		return nil, err
	}
	return in, nil
}

// Events returns an iterator over the events of the inbox. It ends with ctx, or
// with the client. Several iterators share the events: each goes to one of
// them.
func (in *Inbox) Events(ctx context.Context) iter.Seq[Event] { return in.queue.all(ctx) }

// remembered is how many ids of own private messages are kept. More than that
// cannot come again after one reconnect.
const remembered = 1000

// note remembers the id of a private message that this client sends.
func (l *loop) note(id string) {
	if _, ok := l.own[id]; ok {
		return
	}
	l.own[id] = struct{}{}
	l.ownOrder = append(l.ownOrder, id)
	if len(l.ownOrder) > remembered {
		delete(l.own, l.ownOrder[0])
		l.ownOrder = l.ownOrder[1:]
	}
}

// isOwn reports whether an event of the inbox is a private message that this
// client has sent. After a reconnect the server sends these, too.
func (l *loop) isOwn(f frame) bool {
	if f.Type != TypePrivateMessage || f.From == nil || f.From.ID != l.me.Load().ID {
		return false
	}
	_, own := l.own[f.ID]
	return own
}

// Conversation is the private messages between this user and another one. It
// has no state, and all methods may be called from any goroutine. What the
// other user sends is in the [Inbox].
type Conversation struct {
	c    *Client
	user string
}

// Private returns the conversation with a user.
func (c *Client) Private(user string) *Conversation { return &Conversation{c, user} }

// Send sends a private message, and returns once the server has stored it. The
// server keeps it while the other user is away.
func (v *Conversation) Send(ctx context.Context, data any) (Receipt, error) {
	return v.Post(ctx, Post{Data: data})
}

// Reply sends a reply to a message.
func (v *Conversation) Reply(ctx context.Context, re Ref, data any) (Receipt, error) {
	return v.Post(ctx, Post{Re: re, Data: data})
}

// Post sends a private message.
func (v *Conversation) Post(ctx context.Context, p Post) (Receipt, error) {
	var re any
	if p.Re.ID != "" {
		re = map[string]string{"id": p.Re.ID, "author": p.Re.Author}
	}
	return v.keep(ctx, p.ID, request{Type: TypePrivateMessage, Trace: p.Trace}, re, p.Data)
}

// Edit replaces the data of this user's own message with that id.
func (v *Conversation) Edit(ctx context.Context, id string, data any) (Receipt, error) {
	return v.keep(ctx, "", request{Type: "edit-message"}, nil, map[string]any{"id": id, "data": data})
}

// Delete erases this user's own message with that id.
func (v *Conversation) Delete(ctx context.Context, id string) (Receipt, error) {
	return v.keep(ctx, "", request{Type: "delete-message"}, nil, map[string]any{"id": id})
}

// React adds a reaction to a message, or takes it back if on is false.
func (v *Conversation) React(ctx context.Context, message Ref, key string, on bool) (Receipt, error) {
	return v.keep(ctx, "", request{Type: "react"}, nil, map[string]any{
		"id": message.ID, "author": message.Author, "key": key, "on": on,
	})
}

func (v *Conversation) keep(ctx context.Context, id string, event request, re, data any) (Receipt, error) {
	event.To = v.user
	return v.c.keep(ctx, nil, id, event, re, data)
}

// MarkRead says that this user has read the conversation up to seq, a position
// in this user's own inbox. It returns the marker that holds now.
func (v *Conversation) MarkRead(ctx context.Context, seq uint64) (Marker, error) {
	return v.c.markRead(ctx, request{To: v.user}, seq)
}

// History returns a page of the conversation, from this user's own inbox.
func (v *Conversation) History(ctx context.Context, q Query) (Page, error) {
	return v.c.history(ctx, nil, request{To: v.user}, q)
}
