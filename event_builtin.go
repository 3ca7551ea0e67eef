package chathub

import (
	"context"
	"hash/crc64"
	"strconv"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/text"
	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"
)

// builtinEvent is an event of the protocol; see protocol/README.md, section 4.
type builtinEvent struct {
	// check refuses an event that cannot be handled, before Authorize and
	// middleware.
	check func(c *Client, e *Event) *Error
	// action says what Authorize is asked about. Nil: type, room and user of
	// the event.
	action func(ctx context.Context, c *Client, e *Event) (Action, error)
	// free: dispatch does not ask Authorize; run may do so itself.
	free bool
	// durable: run stores a message.
	durable bool
	run     Handler
}

var builtin = map[string]builtinEvent{
	eventMessage:          {check: mayBroadcast, run: onMessage},
	eventJoinRoom:         {check: hasRoom, run: onJoinRoom},
	eventLeaveRoom:        {check: hasRoom, free: true, run: onLeaveRoom},
	eventRoomMessage:      {check: checkRoomMessage, durable: true, run: onRoomMessage},
	eventTyping:           {check: isMember, run: onTyping},
	eventStopTyping:       {check: isMember, free: true, run: onStopTyping},
	eventPrivateMessage:   {check: checkPrivateMessage, durable: true, run: onPrivateMessage},
	eventSendNotification: {check: hasTo, durable: true, run: onSendNotification},
	eventOnlineUsers:      {check: noCheck, free: true, run: onOnlineUsers},
	eventHistory:          {check: checkHistory, run: onHistory},
	eventEditMessage:      {check: checkChange, action: changeAction, durable: true, run: onChange},
	eventDeleteMessage:    {check: checkChange, action: changeAction, durable: true, run: onChange},
	eventReact:            {check: checkChange, action: changeAction, durable: true, run: onChange},
	eventMarkRead:         {check: checkMarkRead, action: markReadAction, run: onMarkRead},
	eventOverview:         {check: noCheck, free: true, run: onOverview},
	eventSetState:         {check: checkSetState, run: onSetState},
	eventResume:           {check: noCheck, free: true, run: onResume},
	eventRefreshToken:     {check: noCheck, free: true, run: onRefreshToken},
}

func noCheck(*Client, *Event) *Error { return nil }

func hasRoom(_ *Client, e *Event) *Error {
	if e.Room == "" {
		return errorf(CodeBadRequest, "room is missing")
	}
	return nil
}

func isMember(c *Client, e *Event) *Error {
	if err := hasRoom(c, e); err != nil {
		return err
	}
	if !c.inRoom(e.Room) {
		return errNotInRoom()
	}
	return nil
}

func errNotInRoom() *Error { return errorf(CodeNotInRoom, "Join the room first") }

func hasTo(_ *Client, e *Event) *Error {
	if e.To == "" {
		return errorf(CodeBadRequest, "to is missing")
	}
	return nil
}

func onMessage(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: eventMessage, trace: e.Trace, from: c.user(), ts: timestamp(), data: e.Data}
	return nil, c.hub.sendVolatile(ctx, Message{Topic: c.world().everyone(), Body: env.body(&note.Routed{Except: []string{c.id}})})
}

// checkRoomMessage is the check of a room-message. Of what it answers, it only
// looks at the form.
func checkRoomMessage(c *Client, e *Event) *Error {
	if e.re != nil {
		if json.Unmarshal(e.re, &e.Re.Seq) != nil || checkSeq("re", e.Re.Seq) != nil {
			return checkSeq("re", 0)
		}
	}
	return isMember(c, e)
}

// checkPrivateMessage is the check of a private-message.
func checkPrivateMessage(c *Client, e *Event) *Error {
	if e.re != nil {
		var re struct {
			ID     string `json:"id"`
			Author string `json:"author"`
		}
		if json.Unmarshal(e.re, &re) != nil || re.ID == "" || len(re.ID) > text.MaxID || !text.Valid(re.Author, text.MaxUser) {
			return errorf(CodeBadRequest, "re must have the id and the author of a message")
		}
		e.Re = MessageRef{ID: re.ID, Author: re.Author}
	}
	return hasTo(c, e)
}

// checkAnswered returns an error if a room has no message yet at the position
// that a message answers.
func (h *Hub) checkAnswered(ctx context.Context, t Topic, e *Event) error {
	if e.Re.Seq == 0 {
		return nil
	}
	head := uint64(0)
	if err := h.onLoop(func(l *loop) {
		if r := l.rooms[t.Room]; r != nil {
			head = r.pos.Seq
		}
	}); err != nil {
		return err
	}
	if e.Re.Seq <= head {
		return nil
	}
	page, err := h.session.Read(ctx, t, Range{}) // another node may be ahead
	if err == nil && e.Re.Seq > page.Head.Seq {
		return errorf(CodeBadRequest, "re is after the newest message")
	}
	return err
}

func onRoomMessage(ctx context.Context, c *Client, e *Event) (any, error) {
	room := c.world().room(e.Room)
	if err := c.hub.checkAnswered(ctx, room, e); err != nil {
		return nil, err
	}
	env := envelope{typ: eventRoomMessage, trace: e.Trace, id: durableID(e), room: e.Room, from: c.user(), re: e.answered(), data: e.Data}
	s := c.sender()
	return answerOf(s.store(ctx, e, &env, room, note.Routed{}))
}

// durableID returns the id of a durable event. If the client gave none, it is
// one that the client does not know, for those who refer to the message.
func durableID(e *Event) string {
	if e.ID == "" {
		return newID("m_")
	}
	return e.ID
}

// answered returns Re as JSON.
func (ev *Event) answered() []byte {
	switch {
	case ev.Re.Seq > 0:
		return strconv.AppendUint(nil, ev.Re.Seq, 10)
	case ev.Re.ID != "":
		b := appendQuoted([]byte(`{"id":`), ev.Re.ID)
		return append(appendField(b, "author", ev.Re.Author), '}')
	}
	return nil
}

// contentSum is a checksum of what makes an event the same message as another
// one with its ID: kind, recipient, what it answers, and data. The room is left
// to the topic, and the sender's name may change in between.
func (ev *Event) contentSum(env *envelope) uint64 {
	what := append([]byte(env.typ+"\x00"+env.to), env.re...)
	return max(1, crc64.Update(ev.dataSum(), checksumTable, what))
}

// dataSum is the checksum of Data as the client sent it, or else, if middleware
// made the event, of what it has.
func (ev *Event) dataSum() uint64 {
	if ev.sum == 0 {
		return checksum(ev.Data)
	}
	return ev.sum
}

var checksumTable = crc64.MakeTable(crc64.ECMA)

// checksum is never 0. Nobody gains from two texts with one checksum: they are
// compared within one user's ids only.
func checksum(b []byte) uint64 { return max(1, crc64.Checksum(b, checksumTable)) }

// sender stores durable events of the client, as long as it has the right to.
func (c *Client) sender() sender { return sender{c.User().ID, c.home(), c} }

func (c *Client) publish(ctx context.Context, m Message) (Receipt, error) {
	if err := c.beginPublish(m.Topic); err != nil {
		return Receipt{}, err
	}
	defer c.endPublish()
	return c.hub.session.Publish(ctx, m)
}

func onPrivateMessage(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: eventPrivateMessage, trace: e.Trace, id: durableID(e), to: e.To, from: c.user(), re: e.answered(), data: e.Data}
	s := c.sender()
	return answerOf(s.private(ctx, e, &env, note.Routed{}, note.Routed{Except: []string{c.id}}))
}

func onSendNotification(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: eventNotification, trace: e.Trace, id: durableID(e), to: e.To, from: c.user(), data: e.Data}
	s := c.sender()
	receipt, err := s.store(ctx, e, &env, c.world().user(e.To), note.Routed{})
	if err != nil || e.To == c.User().ID {
		return answerOf(receipt, err)
	}
	return nil, nil // the position is in another user's log
}

// answerOf returns a receipt as the result of a handler, which has none if
// there is an error.
func answerOf(r Receipt, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

func onOnlineUsers(ctx context.Context, c *Client, _ *Event) (any, error) {
	if !c.hub.cfg.showsUsers(false) {
		return nil, errorf(CodeUnknownType, "Presence is off")
	}
	if err := c.awaitReplay(ctx); err != nil {
		return nil, err
	}
	return nil, c.hub.onLoop(func(l *loop) {
		e := envelope{typ: eventOnlineUsers, data: l.snapshotOf(l.onlineOf(c))}
		c.chargeReplay(len(e.data))
		l.send(c, e.frame(), wire.Durable)
	})
}

func onLeaveRoom(_ context.Context, c *Client, e *Event) (any, error) {
	return nil, c.hub.onLoop(func(l *loop) { l.leaveRoom(c, e.Room) })
}

func onRefreshToken(ctx context.Context, c *Client, e *Event) (any, error) {
	var data struct {
		Token string `json:"token"`
	}
	if err := decodeData(e, &data); err != nil {
		return nil, err
	}
	if data.Token == "" {
		return nil, errorf(CodeBadRequest, "token is missing")
	}
	if err := handshake.CheckToken(data.Token); err != nil {
		return nil, c.tokenRefused(invalidToken(err))
	}
	id, e2 := c.hub.authenticate(ctx, data.Token, nil)
	if e2 != nil {
		return nil, c.tokenRefused(e2)
	}
	if id.User.ID != c.User().ID || id.Tenant != c.Tenant() {
		return nil, c.tokenRefused(errorf(CodeForbidden, "The token is of another user"))
	}
	if err := c.hub.onLoop(func(l *loop) { l.identify(c, &id) }); err != nil {
		return nil, err
	}
	result := map[string]int64{}
	if !id.Expires.IsZero() {
		result["expires"] = id.Expires.UnixMilli()
	}
	return result, nil
}

// tokenRefused logs why a refresh-token is refused, and returns that.
func (c *Client) tokenRefused(e *Error) error {
	c.hub.logRefused(nil, e, "user", c.User().ID, "client", c.id)
	return e
}

var pong = (&envelope{typ: eventPong}).frame()

// pong answers a ping. The goroutine that reads calls it, so that the answer
// does not wait for a slow handler.
func (c *Client) pong(e *Event) {
	_ = c.send(pong, wire.Durable) // a client that is gone needs no answer
	if e.ID != "" {
		ack := envelope{typ: eventAck, id: e.ID}
		_ = c.send(ack.frame(), wire.Durable)
	}
}
