package client

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"
)

// JoinOptions are the settings of [Client.Join].
type JoinOptions struct {
	// History is how many of the newest messages come after the join. The
	// server has a limit of its own. Ignored if Since is set.
	History int
	// Since asks for everything after a position, such as that of the last
	// event that an earlier run of the program has handled.
	Since *Position
	// SendOnly drops the events of the room. Without it, a program that never
	// reads them keeps up to Options.QueueBytes of them in memory.
	SendOnly bool
}

// Room is a room that the client has joined. The client joins it again after
// each reconnect, until Leave. All methods may be called from any goroutine.
type Room struct {
	c       *Client
	name    string
	history int
	queue   *queue
	roster  roster
	state   roomState

	feed     feed        // the loop's
	joining  func(error) // the loop's; nil once Join has an answer
	typingAt time.Time   // the loop's; when typing was sent last

	mu     sync.Mutex
	marker Marker
}

// maxName is how long the name of a room may be, in bytes.
const maxName = 128

// Join joins a room. It returns once the server has answered, which may be
// after a reconnect. It returns [ErrJoined] if this client has joined the room
// already, and an [*Error] if the server refuses. If ctx ends first, the room
// is left.
func (c *Client) Join(ctx context.Context, room string, o JoinOptions) (*Room, error) {
	r := &Room{c: c, name: room, history: o.History, queue: newQueue(c.opts.QueueBytes, c.drained)}
	r.queue.discard = o.SendOnly
	r.feed = feed{room: room, queue: r.queue}
	if o.Since != nil {
		r.feed.pos, r.feed.known = *o.Since, true
	}
	if room == "" || len(room) > maxName || len(r.feed.pos.Epoch) > maxName {
		return nil, &Error{Code: CodeBadRequest, Message: "The name of a room has 1 to 128 bytes"}
	}
	if _, err := (request{Room: room, ID: r.feed.pos.Epoch}).encode(); err != nil {
		return nil, err
	}
	_, err := await(ctx, c, func(l *loop, settle func(struct{}, error)) func() {
		if l.rooms[room] != nil {
			settle(struct{}{}, ErrJoined)
			return func() {}
		}
		r.joining = func(err error) { settle(struct{}{}, err) }
		r.feed.joined = func(p part) {
			r.take(p)
			r.settleJoin(nil)
		}
		l.rooms[room] = r
		l.order = append(l.order, r)
		l.catchUp()
		return func() { l.leave(r, func(error) {}) }
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Room) settleJoin(err error) {
	if r.joining != nil {
		r.joining(err)
		r.joining = nil
	}
}

// take takes the answer to a join. It runs on the loop.
func (r *Room) take(p part) {
	count := len(p.Users)
	if p.Count != nil {
		count = *p.Count
	}
	r.roster.whole(presence{Users: p.Users, Count: count})
	r.state.whole(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marker = Marker{Seq: p.Read, Unread: -1, Head: p.Seq}
	if p.Unread != nil {
		r.marker.Unread = *p.Unread
	}
}

// endRoom ends a room that the server has ended.
func (l *loop) endRoom(r *Room, err error) {
	if l.rooms[r.name] != r {
		return
	}
	delete(l.rooms, r.name)
	l.order = slices.DeleteFunc(l.order, func(other *Room) bool { return other == r })
	r.feed.disconnected()
	if r.feed.forget != nil {
		r.feed.forget()
	}
	r.queue.end(err, false)
	r.settleJoin(err)
	l.outbox.fail(func(e *entry) bool { return e.room == r }, err)
}

// leave ends a room, and tells the server. done is called with its answer.
func (l *loop) leave(r *Room, done func(error)) {
	if l.rooms[r.name] != r {
		done(nil)
		return
	}
	sent := r.feed.member || r.feed.asked
	l.endRoom(r, ErrLeft)
	if l.conn == nil || !sent {
		done(nil)
		return
	}
	l.askToLeave(r.name, done)
}

// askToLeave tells the server to take this client out of a room. Nothing joins
// the room before the answer.
func (l *loop) askToLeave(room string, done func(error)) {
	l.leaving[room] = struct{}{}
	l.requests.ask(request{Type: "leave-room", Room: room}, now, func(_ frame, err error) {
		if l.conn == nil { // left with the connection
			done(nil)
			return
		}
		delete(l.leaving, room)
		l.catchUp() // it may have been joined again
		done(err)
	})
}

// Name returns the name of the room.
func (r *Room) Name() string { return r.name }

// Events returns an iterator over the events of the room. It ends with ctx, or
// once the room has ended and all its events have been read; [Room.Err] says
// why. Several iterators share the events: each goes to one of them.
func (r *Room) Events(ctx context.Context) iter.Seq[Event] { return r.queue.all(ctx) }

// Err returns why the room has ended: [ErrLeft], an [*Error] if the server
// refused to let the client in again or has removed it, or the error of the
// client. It returns nil while the client is in the room or joining it.
func (r *Room) Err() error { return r.queue.reason() }

// Users returns the users in the room by id, as far as the server lists them,
// and how many there are. Both stay as they were while there is no connection.
func (r *Room) Users() ([]User, int) { return r.roster.list() }

// Marker returns how far this user had read when the room was last joined.
// MarkRead returns newer ones.
func (r *Room) Marker() Marker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.marker
}

// Leave leaves the room. Messages that are still to be sent fail with
// [ErrLeft]. It returns once the server has answered, and at once if there is
// no connection.
func (r *Room) Leave(ctx context.Context) error {
	_, err := await(ctx, r.c, func(l *loop, settle func(struct{}, error)) func() {
		l.leave(r, func(err error) { settle(struct{}{}, err) })
		return func() {}
	})
	return err
}

// Post is a message with an id of the program's own, or in reply to another
// one.
type Post struct {
	// ID is at most 64 bytes, unique among everything that the user sends. A
	// post that is repeated with the same ID and data is stored once, also by
	// another run of the program within some minutes. Default: a random one.
	ID string
	// Re is the message that this one replies to. The zero value is no reply.
	Re Ref
	// Trace is a traceparent (W3C Trace Context, section 3.2) that the server
	// carries on, or empty.
	Trace string
	Data  any // is sent as JSON
}

// Send sends a message, and returns once the server has stored it. It is in the
// events of the room as well.
func (r *Room) Send(ctx context.Context, data any) (Receipt, error) {
	return r.Post(ctx, Post{Data: data})
}

// Reply sends a reply to the message at seq.
func (r *Room) Reply(ctx context.Context, seq uint64, data any) (Receipt, error) {
	return r.Post(ctx, Post{Re: Ref{Seq: seq}, Data: data})
}

// Post sends a message.
func (r *Room) Post(ctx context.Context, p Post) (Receipt, error) {
	return r.keep(ctx, p.ID, request{Type: TypeRoomMessage, Trace: p.Trace}, p.Re.Seq, p.Data)
}

// Edit replaces the data of this user's own message at seq.
func (r *Room) Edit(ctx context.Context, seq uint64, data any) (Receipt, error) {
	return r.keep(ctx, "", request{Type: "edit-message"}, nil, map[string]any{"seq": seq, "data": data})
}

// Delete erases the message at seq.
func (r *Room) Delete(ctx context.Context, seq uint64) (Receipt, error) {
	return r.keep(ctx, "", request{Type: "delete-message"}, nil, map[string]any{"seq": seq})
}

// React adds a reaction of this user to the message at seq, or takes it back if
// on is false. The key is 1 to 32 bytes, such as an emoji.
func (r *Room) React(ctx context.Context, seq uint64, key string, on bool) (Receipt, error) {
	return r.keep(ctx, "", request{Type: "react"}, nil, map[string]any{"seq": seq, "key": key, "on": on})
}

func (r *Room) keep(ctx context.Context, id string, event request, re, data any) (Receipt, error) {
	event.Room = r.name
	return r.c.keep(ctx, r, id, event, re, data)
}

// MarkRead says that the user has read everything up to seq. It returns the
// marker that holds now.
func (r *Room) MarkRead(ctx context.Context, seq uint64) (Marker, error) {
	return r.c.markRead(ctx, request{Room: r.name}, seq)
}

// History returns a page of the room's log.
func (r *Room) History(ctx context.Context, q Query) (Page, error) {
	return r.c.history(ctx, r, request{Room: r.name}, q)
}

// Emit sends an event of the application about this room; see [Client.Emit].
func (r *Room) Emit(ctx context.Context, event string, data, answer any) error {
	return r.c.emit(ctx, request{Type: event, Room: r.name}, data, answer)
}

// typingEvery is the least time between two typing events.
const typingEvery = 2 * time.Second

// Typing tells the others that this user is typing. It may be called at each
// keystroke, and is sent every 2 s at most. It is not sent without a
// connection. The server ends it after 10 s (by default), or StopTyping does.
func (r *Room) Typing() {
	r.c.post(func(l *loop) {
		now := time.Now()
		if !r.feed.member || !r.typingAt.IsZero() && now.Sub(r.typingAt) < typingEvery {
			return
		}
		r.typingAt = now
		l.writeEvent(request{Type: TypeTyping, Room: r.name})
	})
}

// StopTyping ends Typing. Sending a message does, too.
func (r *Room) StopTyping() {
	r.c.post(func(l *loop) { r.stopTyping(l) })
}

func (r *Room) stopTyping(l *loop) {
	if r.typingAt.IsZero() {
		return
	}
	r.typingAt = time.Time{}
	if r.feed.member {
		l.writeEvent(request{Type: TypeStopTyping, Room: r.name})
	}
}
