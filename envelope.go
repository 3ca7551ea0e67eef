package chathub

import (
	"fmt"
	"strconv"

	"github.com/chathub-go/chathub/internal/note"
	"github.com/chathub-go/chathub/internal/text"
	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json/jsontext"
)

// The types of the protocol's events (protocol/README.md, sections 4 and 5).
const (
	// These belong to the connection itself. An application can neither handle
	// nor emit them.
	eventWelcome      = "welcome"
	eventConnectError = "connect-error"
	eventReconnect    = "reconnect"
	eventAck          = "ack"
	eventError        = "error"
	eventPing         = "ping"
	eventPong         = "pong"

	// These are sent by clients, and some are passed on under the same name.
	eventMessage          = "message"
	eventJoinRoom         = "join-room"
	eventLeaveRoom        = "leave-room"
	eventRoomMessage      = "room-message"
	eventTyping           = "typing"
	eventStopTyping       = "stop-typing"
	eventPrivateMessage   = "private-message"
	eventSendNotification = "send-notification"
	eventOnlineUsers      = "online-users"
	eventHistory          = "history"
	eventResume           = "resume"
	eventRefreshToken     = "refresh-token"
	eventEditMessage      = "edit-message"
	eventDeleteMessage    = "delete-message"
	eventReact            = "react"
	eventMarkRead         = "mark-read"
	eventOverview         = "overview"
	eventSetState         = "set-state"

	// These are sent by the server only.
	eventNotification   = "notification"
	eventMessageChanged = "message-changed"
	eventRead           = "read"
	eventStateChanged   = "state-changed"
	eventRemoved        = "removed"
	eventUserOnline     = "user-online"
	eventUserOffline    = "user-offline"
	eventUserJoined     = "user-joined"
	eventUserLeft       = "user-left"
)

// envelope is an envelope from the server; see protocol/README.md, section 1.
type envelope struct {
	typ   string
	id    string
	room  string
	to    string
	from  *User
	re    []byte // the message that is answered, as JSON; nil: none
	seq   uint64
	ts    int64
	ack   bool
	trace string // a traceparent; empty: none
	data  []byte // a JSON value; nil: none
}

// envelopeOverhead is the size in bytes of names, numbers, punctuation and most
// ids.
const envelopeOverhead = 224

// frame returns the envelope as a frame that is ready to be sent.
func (env *envelope) frame() []byte {
	b := make([]byte, wire.HeaderRoom, wire.HeaderRoom+envelopeOverhead+len(env.data))
	return wire.Seal(env.append(b))
}

// append appends the envelope as JSON.
func (env *envelope) append(b []byte) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, env.typ...) // its characters need no quoting
	b = append(b, '"')
	b = appendField(b, "id", env.id)
	b = appendField(b, "room", env.room)
	b = appendField(b, "to", env.to)
	if env.from != nil {
		b = append(b, `,"from":`...)
		b = appendUser(b, *env.from)
	}
	if env.re != nil {
		b = append(b, `,"re":`...)
		b = append(b, env.re...)
	}
	if env.ack {
		b = append(b, `,"ack":true`...)
	}
	b = appendField(b, "trace", env.trace)
	if env.data != nil {
		b = append(b, `,"data":`...)
		b = append(b, env.data...)
	}
	b = append(b, '}')
	return appendPosition(b, env.seq, env.ts)
}

// body returns the body of a message that emits env to the recipients in r.
func (env *envelope) body(r *note.Routed) []byte {
	return env.append(r.Encode(envelopeOverhead + len(env.data)))
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return appendQuoted(b, value)
}

// appendQuoted appends s as a JSON string. It would replace invalid UTF-8,
// which no validated field has.
func appendQuoted(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

func appendUser(b []byte, u User) []byte {
	b = append(b, `{"id":`...)
	b = appendQuoted(b, u.ID)
	b = append(b, `,"name":`...)
	b = appendQuoted(b, u.Name)
	return append(b, '}')
}

// appendPosition inserts seq and ts, if there are any, into the JSON object at
// the end of b.
func appendPosition(b []byte, seq uint64, ts int64) []byte {
	if seq == 0 && ts == 0 {
		return b
	}
	b = b[:len(b)-1]
	if seq > 0 {
		b = append(b, `,"seq":`...)
		b = strconv.AppendUint(b, seq, 10)
	}
	b = append(b, `,"ts":`...)
	b = strconv.AppendInt(b, ts, 10)
	return append(b, '}')
}

// frameOf returns the frame of a delivered message: its envelope with its
// position.
func frameOf(body []byte, seq uint64, ts int64) []byte {
	const position = 40 // ,"seq":…,"ts":…
	b := make([]byte, wire.HeaderRoom, wire.HeaderRoom+len(body)+position)
	b = append(b, body...)
	if seq == 0 {
		return wire.Seal(b)
	}
	return wire.Seal(appendPosition(b, seq, ts))
}

// newEnvelope returns the envelope of an event that the application emits. It
// fails if the name or the data is not valid, or if the data would not fit into
// what a client may recover at once.
func (h *Hub) newEnvelope(event string, data any) (*envelope, error) {
	if !text.ValidType(event) || reserved[event] || madeByHub[event] {
		return nil, badEmit(fmt.Sprintf("%q is not an event name that an application may use", event), nil)
	}
	b, err := marshal(data)
	if err != nil {
		return nil, err
	}
	if most := h.cfg.answerBytes(); len(b) > most {
		e := badEmit(fmt.Sprintf("data has %d bytes, more than half of MaxOutboxBytes (%d)", len(b), most), nil)
		e.Code = CodeTooLarge
		return nil, e
	}
	return &envelope{typ: event, data: b}, nil
}

// reserved are the types that belong to the connection itself.
var reserved = map[string]bool{
	eventWelcome: true, eventConnectError: true, eventAck: true, eventError: true, eventPing: true, eventPong: true, eventReconnect: true,
}

// madeByHub are the types of events that say what the hub has stored. One that
// an application emits would mislead clients.
var madeByHub = map[string]bool{eventMessageChanged: true, eventStateChanged: true, eventRead: true}
