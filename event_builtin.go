package chathub

import (
	"context"

	"github.com/go-json-experiment/json"

	"github.com/chathub-go/chathub/internal/handshake"
)

// builtinEvent is an event of the protocol; see PROTOCOL section 3.
type builtinEvent struct {
	// check refuses what cannot be handled, before Authorize and middleware.
	check func(c *Client, e *Event) *Error
	// free: Authorize is not asked, or asked by run.
	free bool
	run  Handler
}

var builtin = map[string]builtinEvent{
	"message":           {check: anything, run: onMessage},
	"join-room":         {check: hasRoom, run: onJoinRoom},
	"leave-room":        {check: hasRoom, free: true, run: onLeaveRoom},
	"room-message":      {check: isMember, run: onRoomMessage},
	"typing":            {check: isMember, run: onTyping},
	"stop-typing":       {check: isMember, free: true, run: onStopTyping},
	"private-message":   {check: hasTo, run: onPrivateMessage},
	"send-notification": {check: hasTo, run: onSendNotification},
	"online-users":      {check: anything, free: true, run: onOnlineUsers},
	"history":           {check: isMember, run: onHistory},
	"resume":            {check: anything, free: true, run: onResume},
	"refresh-token":     {check: anything, free: true, run: onRefreshToken},
}

func anything(*Client, *Event) *Error { return nil }

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
	env := envelope{typ: "message", from: &c.user, ts: now(), data: e.Data}
	r := routed{except: []string{c.id}}
	return nil, c.hub.sendVolatile(ctx, Message{Body: r.emit(&env)})
}

func onRoomMessage(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: "room-message", id: e.ID, room: e.Room, from: &c.user, data: e.Data}
	return c.publish(ctx, Topic{Room: e.Room}, &env, routed{})
}

// publish stores a message of the client. Its key makes a repetition of the same
// id by the same user recognisable; a user id has no control characters.
func (c *Client) publish(ctx context.Context, t Topic, e *envelope, r routed) (any, error) {
	m := Message{Topic: t, Body: r.emit(e)}
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
	env := envelope{typ: "private-message", id: e.ID, to: e.To, from: &c.user, data: e.Data}
	if e.To != c.user.ID {
		if _, err := c.publish(ctx, Topic{User: e.To}, &env, routed{}); err != nil {
			return nil, err
		}
	}
	return c.publish(ctx, Topic{User: c.user.ID}, &env, routed{except: []string{c.id}})
}

func onSendNotification(ctx context.Context, c *Client, e *Event) (any, error) {
	env := envelope{typ: "notification", id: e.ID, to: e.To, from: &c.user, data: e.Data}
	receipt, err := c.publish(ctx, Topic{User: e.To}, &env, routed{})
	if err != nil || e.To == c.user.ID {
		return receipt, err
	}
	return nil, nil // the position is in a log that is not the sender's
}

func onOnlineUsers(_ context.Context, c *Client, _ *Event) (any, error) {
	if c.hub.cfg.PresenceInterval < 0 {
		return nil, errorf(CodeUnknownType, "Presence is off")
	}
	return nil, c.hub.ask(func(l *loop) {
		e := envelope{typ: "online-users", data: l.snapshotOf(&l.online)}
		l.send(c, e.frame(), false)
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
		return nil, c.tokenRefused(invalidToken(err))
	}
	id, e2 := c.hub.authenticate(ctx, data.Token, nil)
	if e2 != nil {
		return nil, c.tokenRefused(e2)
	}
	if id.User.ID != c.user.ID {
		return nil, c.tokenRefused(errorf(CodeForbidden, "The token is of another user"))
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

// tokenRefused logs why a refresh-token is refused, and returns that.
func (c *Client) tokenRefused(e *Error) error {
	c.hub.logRefused(nil, e, "user", c.user.ID, "client", c.id)
	return e
}

var pong = (&envelope{typ: "pong"}).frame()

// pong answers a ping. Who reads does it: whether the server is still there must
// not depend on a handler that takes long.
func (c *Client) pong(e *Event) {
	_ = c.send(pong, false) // a client that is gone needs no answer
	if e.ID != "" {
		ack := envelope{typ: "ack", id: e.ID}
		_ = c.send(ack.frame(), false)
	}
}
