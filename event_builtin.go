package chathub

import (
	"context"

	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json"

	"github.com/chathub-go/chathub/internal/handshake"
	"github.com/chathub-go/chathub/internal/note"
)

// builtinEvent is an event of the protocol; see protocol/README.md, section 4.
type builtinEvent struct {
	// check refuses what cannot be handled, before Authorize and middleware.
	check func(c *Client, e *Event) *Error
	// free: Authorize is not asked, or asked by run.
	free bool
	run  Handler
}

var builtin = map[string]builtinEvent{
	eventMessage:          {check: noCheck, run: onMessage},
	eventJoinRoom:         {check: hasRoom, run: onJoinRoom},
	eventLeaveRoom:        {check: hasRoom, free: true, run: onLeaveRoom},
	eventRoomMessage:      {check: isMember, run: onRoomMessage},
	eventTyping:           {check: isMember, run: onTyping},
	eventStopTyping:       {check: isMember, free: true, run: onStopTyping},
	eventPrivateMessage:   {check: hasTo, run: onPrivateMessage},
	eventSendNotification: {check: hasTo, run: onSendNotification},
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
	return nil, c.hub.sendVolatile(ctx, Message{Body: env.body(&note.Routed{Except: []string{c.id}})})
}

func onRoomMessage(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: eventRoomMessage, id: e.ID, room: e.Room, from: &c.user, data: e.Data}
	return c.publish(ctx, Topic{Room: e.Room}, &env, note.Routed{})
}

// publish stores a message of the client. Its key makes a repetition of the same
// id by the same user recognisable; a user id has no control characters.
func (c *Client) publish(ctx context.Context, t Topic, e *envelope, r note.Routed) (any, error) {
	m := Message{Topic: t, Body: e.body(&r)}
	if e.id != "" {
		m.Key = c.user.ID + "\x00" + e.id
	}
	receipt, err := c.hub.session.Publish(ctx, m)
	if err != nil {
		return nil, err
	}
	return receipt, nil
}

// onPrivateMessage stores the message in both inboxes, the recipient's first: a
// client that repeats one of which only the first half worked completes it.
func onPrivateMessage(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: eventPrivateMessage, id: e.ID, to: e.To, from: &c.user, data: e.Data}
	if e.To != c.user.ID {
		if _, err := c.publish(ctx, Topic{User: e.To}, &env, note.Routed{}); err != nil {
			return nil, err
		}
	}
	return c.publish(ctx, Topic{User: c.user.ID}, &env, note.Routed{Except: []string{c.id}})
}

func onSendNotification(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: eventNotification, id: e.ID, to: e.To, from: &c.user, data: e.Data}
	receipt, err := c.publish(ctx, Topic{User: e.To}, &env, note.Routed{})
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
