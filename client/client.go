package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Client is one user's connection to a hub, which it restores by itself. All
// methods may be called from any goroutine.
type Client struct {
	url    string
	opts   Options
	status statusBox
	me     atomic.Pointer[User]
	online roster
	rest   *queue // events that belong to no room and not to the inbox

	calls   chan func(*loop) // run on the loop
	drained chan struct{}    // a crowded queue is half empty; has room for one
	quit    chan struct{}    // closed by Close
	close   sync.Once
	ended   chan struct{} // closed when the loop takes no calls any more
	err     error         // why; set before ended
	done    chan struct{} // closed when all goroutines have ended

	// The loop's, but needed by code that has a Client only.
	firstInbox *Position // as of the first welcome
	maxMessage int       // of the last welcome, in bytes; 0: not known
}

// Dial connects to the hub at url, whose scheme is ws, wss, http or https. It
// returns once the server has accepted the client, or with a [*RefusedError] if
// it refuses. If the server cannot be reached, Dial goes on trying until ctx
// ends. ctx has no effect on the client that is returned.
func Dial(ctx context.Context, url string, o Options) (*Client, error) {
	if err := checkURL(url); err != nil {
		return nil, err
	}
	c := &Client{
		url:     url,
		opts:    o.withDefaults(),
		calls:   make(chan func(*loop)),
		drained: make(chan struct{}, 1),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
		done:    make(chan struct{}),
	}
	c.status.changed = make(chan struct{})
	c.rest = newQueue(c.opts.QueueBytes, make(chan struct{}, 1))
	c.rest.discard = true // until Events is called
	l := &loop{
		Client:  c,
		rooms:   make(map[string]*Room),
		leaving: make(map[string]struct{}),
		own:     make(map[string]struct{}),
	}
	l.outbox.l, l.requests.l = l, l
	l.ctx, l.cancel = context.WithCancel(context.Background())
	go l.run()
	var last error
	for s := range c.Statuses(ctx) {
		switch last = s.Err; s.State {
		case Connected:
			return c, nil
		case Ended:
			<-c.done
			return nil, s.Err
		}
	}
	c.Close()
	if last == nil {
		return nil, fmt.Errorf("chathub client: not connected: %w", ctx.Err())
	}
	return nil, fmt.Errorf("%w: %w", ctx.Err(), last)
}

// Close ends the client: all calls that wait return [ErrClosed], and iterators
// end. It closes the connection, and waits up to 2 s for the server and then
// for all goroutines of the client: a Token or [Answerer] that is running must
// return when its ctx ends, and must not call Close itself. It may be called
// more than once.
func (c *Client) Close() {
	c.close.Do(func() { close(c.quit) })
	<-c.done
}

// Shutdown is a Close that loses nothing. It takes no new calls, and waits
// until all messages are stored and all calls answered, which may be after a
// reconnect. Iterators end once they have the events that came until then. If
// ctx ends first, it is like Close, and returns the error of ctx. It returns a
// [*RefusedError] if the server refuses the client meanwhile.
func (c *Client) Shutdown(ctx context.Context) error {
	if c.do(ctx, func(l *loop) { l.draining = true }) == nil {
		select {
		case <-c.done:
		case <-ctx.Done():
		}
	}
	select {
	case <-c.ended:
		<-c.done
		if !errors.Is(c.err, ErrClosed) {
			return c.err
		}
		return nil
	default:
	}
	c.Close()
	return ctx.Err()
}

// Done returns a channel that is closed when the client has ended: by Close or
// Shutdown, or because the server refuses it.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client has ended, [ErrClosed] or a [*RefusedError]. It
// returns nil before.
func (c *Client) Err() error {
	select {
	case <-c.ended:
		return c.err
	default:
		return nil
	}
}

// User returns the user that the server takes this client for.
func (c *Client) User() User {
	if u := c.me.Load(); u != nil {
		return *u
	}
	return User{}
}

// Events returns an iterator over the events that belong to no room and not to
// the inbox: messages to everyone, presence, and the application's events for
// this connection. It also has the events of rooms that the server has put this
// client into. All these are live only, and events from before the first call
// are not kept. It ends with ctx, or with the client. Several iterators share
// the events: each goes to one of them.
func (c *Client) Events(ctx context.Context) iter.Seq[Event] {
	c.rest.mu.Lock()
	c.rest.discard = false
	c.rest.mu.Unlock()
	return c.rest.all(ctx)
}

// Online returns the users who are online by id, as far as the server lists
// them, and how many there are. Both stay as they were while there is no
// connection.
func (c *Client) Online() ([]User, int) { return c.online.list() }

// OnlineUsers asks the server for the whole list, and returns it.
func (c *Client) OnlineUsers(ctx context.Context) ([]User, int, error) {
	// The list comes before its ack.
	if _, err := c.ask(ctx, request{Type: TypeOnlineUsers}, read); err != nil {
		return nil, 0, err
	}
	users, count := c.Online()
	return users, count, nil
}

// Emit sends an event of the application, and decodes the answer of its handler
// into answer, a pointer or nil. It is also for the built-in [TypeMessage]. The
// event is sent once, as soon as there is a connection. Data that is nil is
// left out.
func (c *Client) Emit(ctx context.Context, event string, data, answer any) error {
	return c.emit(ctx, request{Type: event}, data, answer)
}

// Notify sends a notification to a user, and returns once the server has stored
// it. The server keeps it while the user is away.
func (c *Client) Notify(ctx context.Context, user string, data any) (Receipt, error) {
	return c.keep(ctx, nil, "", request{Type: "send-notification", To: user}, nil, data)
}

// Overview says where rooms and conversations stand. Rooms that the user may
// not see, and those without a message, are absent.
type Overview struct {
	Rooms map[string]RoomOverview
	// Conversations has the newest first. Nil unless it was asked for.
	Conversations []ConversationOverview
}

// RoomOverview is where one room stands.
type RoomOverview struct {
	Head   Position
	Marker Marker
	Last   *Event // the newest message; nil if the log has none
}

// ConversationOverview is where the conversation with one user stands.
type ConversationOverview struct {
	User   User
	Marker Marker // Head is the position of Last
	Last   *Event
}

// Overview asks where up to 500 rooms stand and, with inbox, all private
// conversations. It joins nothing.
func (c *Client) Overview(ctx context.Context, rooms []string, inbox bool) (Overview, error) {
	data, err := encodeData(struct {
		Rooms []string `json:"rooms"`
		Inbox bool     `json:"inbox,omitzero"`
	}{slices.Concat([]string{}, rooms), inbox})
	if err != nil {
		return Overview{}, err
	}
	answer, err := c.ask(ctx, request{Type: "overview", Data: data}, read)
	if err != nil {
		return Overview{}, err
	}
	var d struct {
		Rooms map[string]struct {
			Epoch  string `json:"epoch"`
			Seq    uint64 `json:"seq"`
			Read   uint64 `json:"read"`
			Unread *int   `json:"unread"`
			Last   *frame `json:"last"`
		} `json:"rooms"`
		Conversations []struct {
			User   User   `json:"user"`
			Read   uint64 `json:"read"`
			Unread *int   `json:"unread"`
			Last   *frame `json:"last"`
		} `json:"conversations"`
	}
	if json.Unmarshal(answer.Data, &d) != nil {
		return Overview{}, errInvalid
	}
	o := Overview{Rooms: make(map[string]RoomOverview, len(d.Rooms))}
	for name, r := range d.Rooms {
		o.Rooms[name] = RoomOverview{
			Head: Position{r.Epoch, r.Seq}, Marker: marker(r.Read, r.Unread, r.Seq), Last: last(r.Last, r.Epoch),
		}
	}
	for _, v := range d.Conversations {
		one := ConversationOverview{User: v.User, Last: last(v.Last, "")}
		if one.Last != nil {
			one.Marker = marker(v.Read, v.Unread, v.Last.Seq)
		}
		o.Conversations = append(o.Conversations, one)
	}
	return o, nil
}

func marker(read uint64, unread *int, head uint64) Marker {
	m := Marker{Seq: read, Unread: -1, Head: head}
	if unread != nil {
		m.Unread = *unread
	}
	return m
}

func last(f *frame, epoch string) *Event {
	if f == nil {
		return nil
	}
	e := f.event(epoch)
	return &e
}

// builtin are the events that have methods of their own. Emit would send them
// once only, or make the client lose track.
var builtin = []string{
	TypeRoomMessage, TypePrivateMessage, "send-notification", "edit-message", "delete-message", "react",
	"join-room", "leave-room", "resume", "refresh-token", "ack", "error",
}

func (c *Client) emit(ctx context.Context, r request, data, answer any) error {
	if !isType(r.Type) || slices.Contains(builtin, r.Type) {
		return &Error{Code: CodeBadRequest, Message: "Emit is for events of the application"}
	}
	if data != nil {
		var err error
		if r.Data, err = encodeData(data); err != nil {
			return err
		}
	}
	f, err := c.ask(ctx, r, once)
	if err != nil || answer == nil {
		return err
	}
	if f.Data == nil {
		f.Data = jsontext.Value("null")
	}
	if err := json.Unmarshal(f.Data, answer); err != nil {
		return fmt.Errorf("chathub client: the answer to %s: %w", r.Type, err)
	}
	return nil
}

func (c *Client) markRead(ctx context.Context, r request, seq uint64) (Marker, error) {
	r.Type = "mark-read"
	var err error
	if r.Data, err = encodeData(map[string]uint64{"seq": seq}); err != nil {
		return Marker{}, err
	}
	f, err := c.ask(ctx, r, read)
	if err != nil {
		return Marker{}, err
	}
	var m Marker
	if json.Unmarshal(f.Data, &m) != nil {
		return Marker{}, errInvalid
	}
	return m, nil
}

func (c *Client) history(ctx context.Context, room *Room, r request, q Query) (Page, error) {
	r.Type = "history"
	var err error
	if r.Data, err = encodeData(q); err != nil {
		return Page{}, err
	}
	f, err := c.ask(ctx, r, read)
	if err != nil {
		return Page{}, err
	}
	var d struct {
		Messages []frame `json:"messages"`
		More     bool    `json:"more"`
		Newer    bool    `json:"newer"`
		Next     uint64  `json:"next"`
	}
	if json.Unmarshal(f.Data, &d) != nil {
		return Page{}, errInvalid
	}
	var epoch string
	if err := c.do(ctx, func(l *loop) { epoch = l.epochOf(room) }); err != nil {
		return Page{}, err
	}
	p := Page{Messages: make([]Event, 0, len(d.Messages)), More: d.More, Newer: d.Newer, Next: d.Next}
	for i := range d.Messages {
		p.Messages = append(p.Messages, d.Messages[i].event(epoch))
	}
	return p, nil
}

// keep sends a durable event through the outbox.
func (c *Client) keep(ctx context.Context, room *Room, id string, r request, re, data any) (Receipt, error) {
	var err error
	if r.Data, err = encodeData(data); err != nil {
		return Receipt{}, err
	}
	if seq, ok := re.(uint64); re != nil && (!ok || seq > 0) {
		if r.Re, err = encodeData(re); err != nil {
			return Receipt{}, err
		}
	}
	if r.ID = id; id == "" {
		r.ID = newID()
	}
	text, err := r.encode()
	if err != nil {
		return Receipt{}, err
	}
	return await(ctx, c, func(l *loop, settle func(Receipt, error)) func() {
		e := &entry{id: r.ID, room: room, text: text, settle: settle}
		switch r.Type {
		case TypeRoomMessage, TypePrivateMessage, "send-notification":
		default:
			e.change = true
		}
		if e.lane = "user " + r.To; room != nil {
			e.lane = "room " + room.name
			if l.rooms[room.name] != room {
				settle(Receipt{}, room.Err())
				return func() {}
			}
			room.stopTyping(l)
		}
		if r.Type == TypePrivateMessage {
			l.note(r.ID)
		}
		l.outbox.add(e)
		return func() { l.outbox.fail(func(other *entry) bool { return other == e }, context.Canceled) }
	})
}

// ask sends a request and waits for the answer.
func (c *Client) ask(ctx context.Context, r request, m mode) (frame, error) {
	return await(ctx, c, func(l *loop, settle func(frame, error)) func() {
		return l.requests.ask(r, m, settle)
	})
}

// await runs begin on the loop, and waits for what it settles. begin returns
// what to do if ctx ends before.
func await[T any](ctx context.Context, c *Client, begin func(*loop, func(T, error)) func()) (T, error) {
	type result struct {
		v   T
		err error
	}
	out := make(chan result, 1)
	settled := false // the loop's
	var cancel func()
	err := c.do(ctx, func(l *loop) {
		settle := func(v T, err error) {
			if !settled {
				settled = true
				out <- result{v, err}
			}
		}
		if l.draining {
			var zero T
			settle(zero, ErrClosed)
			return
		}
		cancel = begin(l, settle)
	})
	if err != nil {
		var zero T
		return zero, err
	}
	select {
	case r := <-out:
		return r.v, r.err
	case <-ctx.Done():
	}
	c.post(func(*loop) {
		if !settled {
			settled = true
			cancel()
			out <- result{err: ctx.Err()}
		}
	})
	// The end of the loop settles everything, too.
	r := <-out
	return r.v, r.err
}

// do runs fn on the loop, and waits until it has run.
func (c *Client) do(ctx context.Context, fn func(*loop)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ran := make(chan struct{})
	select {
	case c.calls <- func(l *loop) { defer close(ran); fn(l) }:
		<-ran
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
		return c.err
	}
}

// post runs fn on the loop, unless the client has ended.
func (c *Client) post(fn func(*loop)) {
	select {
	case c.calls <- fn:
	case <-c.ended:
	}
}

// newID returns a random id, which cannot be guessed.
func newID() string { return rand.Text() }
