package chathub

import (
	"context"
	"hash/crc64"
	"strconv"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"
)

// builtinEvent is an event of the protocol; see protocol/README.md, section 4.
type builtinEvent struct {
	// check refuses what cannot be handled, before Authorize and middleware.
	check func(c *Client, e *Event) *Error
	// free: Authorize is not asked, or asked by run.
	free bool
	// durable: run stores a message.
	durable bool
	run     Handler
}

var builtin = map[string]builtinEvent{
	eventMessage:          {check: noCheck, run: onMessage},
	eventJoinRoom:         {check: hasRoom, run: onJoinRoom},
	eventLeaveRoom:        {check: hasRoom, free: true, run: onLeaveRoom},
	eventRoomMessage:      {check: isMember, durable: true, run: onRoomMessage},
	eventTyping:           {check: isMember, run: onTyping},
	eventStopTyping:       {check: isMember, free: true, run: onStopTyping},
	eventPrivateMessage:   {check: hasTo, durable: true, run: onPrivateMessage},
	eventSendNotification: {check: hasTo, durable: true, run: onSendNotification},
	eventOnlineUsers:      {check: noCheck, free: true, run: onOnlineUsers},
	eventHistory:          {check: isMember, run: onHistory},
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
		return errorf(CodeNotInRoom, "Join the room first")
	}
	return nil
}

func hasTo(_ *Client, e *Event) *Error {
	if e.To == "" {
		return errorf(CodeBadRequest, "to is missing")
	}
	return nil
}

// decodeData unmarshals the data of a built-in event, which may be absent.
func decodeData(e *Event, v any) error {
	if e.Data == nil {
		return nil
	}
	if err := json.Unmarshal(e.Data, v); err != nil {
		return &Error{Code: CodeBadRequest, Message: "Invalid data", Err: err}
	}
	return nil
}

func onMessage(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: eventMessage, from: &c.user, ts: timestamp(), data: e.Data}
	r := routed{except: []string{c.id}}
	return nil, c.hub.sendVolatile(ctx, Message{Body: r.emit(&env)})
}

func onRoomMessage(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: eventRoomMessage, id: e.ID, room: e.Room, from: &c.user, data: e.Data}
	return c.publish(ctx, c.durable(Topic{Room: e.Room}, e, &env, routed{}))
}

// durable returns the message that stores the envelope of an event of the
// client, who is charged for it. Its key makes a repetition of the same id by
// the same user recognisable; its sum tells whether it is one.
func (c *Client) durable(t Topic, e *Event, env *envelope, r routed) Message {
	m := Message{Topic: t, Owner: c.user.ID, Notice: env.typ == eventNotification, Body: r.emit(env)}
	if e.ID != "" {
		m.Key = c.user.ID + "\x00" + e.ID // a user id has no control characters
		m.Sum = e.contentSum(env)
	}
	return m
}

// contentSum is a checksum of what makes an event the same message as another
// one with its ID: kind, recipient and data. The room is left to the topic, and
// the sender's name may change in between.
func (e *Event) contentSum(env *envelope) uint64 {
	sum := e.sum
	if sum == 0 { // an Event that middleware made
		sum = checksum(e.Data)
	}
	return max(1, crc64.Update(sum, checksumTable, []byte(env.typ+"\x00"+env.to)))
}

var checksumTable = crc64.MakeTable(crc64.ECMA)

// checksum is never 0. Nobody gains from two texts with one checksum: they are
// compared within one user's ids only.
func checksum(b []byte) uint64 { return max(1, crc64.Checksum(b, checksumTable)) }

func (c *Client) publish(ctx context.Context, m Message) (any, error) {
	receipt, err := c.hub.session.Publish(ctx, m)
	if err != nil {
		return nil, err
	}
	return receipt, nil
}

// onPrivateMessage stores the message in both inboxes, the recipient's first: a
// client that repeats one of which only the first half worked completes it, and
// the sender's inbox never shows what the recipient did not get.
//
// The recipient's inbox alone decides whether an id conflicts with an earlier
// one. The key of the sender's copy includes the sum, so the copy is either new
// or a repetition, and no message is refused that its recipient has. The
// character behind the user id keeps the two kinds of keys apart.
func onPrivateMessage(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: eventPrivateMessage, id: e.ID, to: e.To, from: &c.user, data: e.Data}
	own := c.durable(Topic{User: c.user.ID}, e, &env, routed{except: []string{c.id}})
	if e.To != c.user.ID {
		if _, err := c.publish(ctx, c.durable(Topic{User: e.To}, e, &env, routed{})); err != nil {
			return nil, err
		}
		if own.Key != "" {
			own.Key = c.user.ID + "\x01" + strconv.FormatUint(own.Sum, 36) + "\x00" + e.ID
		}
	}
	return c.publish(ctx, own)
}

func onSendNotification(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: eventNotification, id: e.ID, to: e.To, from: &c.user, data: e.Data}
	receipt, err := c.publish(ctx, c.durable(Topic{User: e.To}, e, &env, routed{}))
	if err != nil || e.To == c.user.ID {
		return receipt, err
	}
	return nil, nil // the position is in a log that is not the sender's
}

func onOnlineUsers(_ context.Context, c *Client, _ *Event) (any, error) {
	if c.hub.cfg.PresenceInterval < 0 {
		return nil, errorf(CodeUnknownType, "Presence is off")
	}
	return nil, c.hub.onLoop(func(l *loop) {
		e := envelope{typ: eventOnlineUsers, data: l.snapshotOf(&l.presence.online)}
		l.send(c, e.frame(), wire.Durable)
	})
}

func onLeaveRoom(ctx context.Context, c *Client, e *Event) (any, error) {
	return nil, c.Leave(ctx, e.Room)
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
		return nil, invalidToken(err)
	}
	id, e2 := c.hub.authenticate(ctx, data.Token, nil)
	if e2 != nil {
		return nil, e2
	}
	if id.User.ID != c.user.ID {
		return nil, errorf(CodeForbidden, "The token is of another user")
	}
	var expires int64
	result := map[string]int64{}
	if !id.Expires.IsZero() {
		expires = id.Expires.UnixNano()
		result["expires"] = id.Expires.UnixMilli()
	}
	c.expires.Store(expires)
	return result, nil
}

var pong = (&envelope{typ: eventPong}).frame()

// pong answers a ping. Who reads does it: whether the server is still there must
// not depend on a handler that takes long.
func (c *Client) pong(e *Event) {
	_ = c.send(pong, wire.Durable) // a client that is gone needs no answer
	if e.ID != "" {
		ack := envelope{typ: eventAck, id: e.ID}
		_ = c.send(ack.frame(), wire.Durable)
	}
}
