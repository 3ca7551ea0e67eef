package chathub

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/chathub-go/chathub/internal/wire"
	"github.com/go-json-experiment/json/jsontext"
)

// Event is an event that a client sent. Handlers and middleware get it; its
// fields are theirs until the handler returns, and middleware may replace Data.
type Event struct {
	Type string
	ID   string // empty where the client wants no answer
	Room string
	To   string
	// Data is the payload as the client sent it; nil where it sent none. Its bytes
	// may be kept, and must not be modified.
	Data jsontext.Value
}

// Handler handles an event of a client. What it returns is sent as the data of
// the ack; an error, as an error: see [Error].
type Handler func(ctx context.Context, c *Client, e *Event) (any, error)

// Middleware wraps the handling of every client event, built-in ones included,
// except for ping, which is answered at once. The context given to the handler ends
// when the client goes. A Middleware may be called several times while handlers are
// registered: what it returns may keep state, the Middleware itself may not.
type Middleware func(next Handler) Handler

// Action is what a client wants to do; see Config.Authorize. Type is the event's
// type: "join-room", "room-message", "history", "typing", "message",
// "private-message", "send-notification", or one of the application's own. A resume is
// a "join-room" for each of its rooms.
type Action struct {
	Type string
	Room string
	To   string
}

// envelope is what the server sends; see PROTOCOL section 2.
type envelope struct {
	typ  string
	id   string
	room string
	to   string
	from *User
	seq  uint64
	ts   int64
	ack  bool
	data []byte // a JSON value; nil: none
}

// envelopeOverhead is what names, numbers, punctuation and most ids take.
const envelopeOverhead = 224

// frame returns the envelope as a ready frame.
func (e *envelope) frame() []byte {
	b := make([]byte, wire.HeaderRoom, wire.HeaderRoom+envelopeOverhead+len(e.data))
	return wire.Seal(e.append(b))
}

// append appends the envelope as JSON.
func (e *envelope) append(b []byte) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, e.typ...) // of a charset that needs no quoting
	b = append(b, '"')
	b = appendField(b, "id", e.id)
	b = appendField(b, "room", e.room)
	b = appendField(b, "to", e.to)
	if e.from != nil {
		b = append(b, `,"from":`...)
		b = appendUser(b, *e.from)
	}
	if e.ack {
		b = append(b, `,"ack":true`...)
	}
	if e.data != nil {
		b = append(b, `,"data":`...)
		b = append(b, e.data...)
	}
	b = append(b, '}')
	return appendPosition(b, e.seq, e.ts)
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

// appendQuoted appends s as a JSON string. Invalid UTF-8, which no validated
// field has, would be replaced.
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

// appendPosition puts seq and ts, where there are any, into the JSON object that
// b ends with.
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

// op is what a message between hubs does with whoever it reaches.
type op byte

const (
	opEmit op = iota
	opJoin
	opLeave
	opDisconnect
	opCount
)

// routed is the content of a Message: an operation and whom it is for, within
// its topic.
type routed struct {
	op op
	// except lists connections that it is not for.
	except []string
	// once, where not 0, is common to the messages of one emit to several topics:
	// who hears several of those gets the first one only.
	once uint64
	// clients, where there are any, are the only connections that it is for.
	clients []string
	// rooms to join or leave.
	rooms []string
	// body is the envelope without seq and ts, or the reason of a disconnect.
	body []byte
}

// emit returns the Body of a Message that emits e.
func (r *routed) emit(e *envelope) []byte {
	return e.append(r.encode(envelopeOverhead + len(e.data)))
}

// encode returns the Body of a Message, with room for more bytes of body: op,
// once, three counted lists of counted strings, and the rest is body.
func (r *routed) encode(room int) []byte {
	b := make([]byte, 0, 14+len(r.body)+room+32*(len(r.except)+len(r.clients)+len(r.rooms)))
	b = append(b, byte(r.op))
	b = binary.AppendUvarint(b, r.once)
	for _, list := range [...][]string{r.except, r.clients, r.rooms} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	return append(b, r.body...)
}

var errBody = errors.New("chathub: not a message body of this version")

// decode is the opposite of encode. The result shares b's memory.
func (r *routed) decode(b []byte) error {
	if len(b) == 0 || op(b[0]) >= opCount {
		return errBody
	}
	once, k := binary.Uvarint(b[1:])
	if k <= 0 {
		return errBody
	}
	r.op, r.once, b = op(b[0]), once, b[1+k:]
	for _, list := range [...]*[]string{&r.except, &r.clients, &r.rooms} {
		n, rest, ok := count(b)
		if !ok {
			return errBody
		}
		b = rest
		for range n {
			size, rest, ok := count(b)
			if !ok {
				return errBody
			}
			*list = append(*list, string(rest[:size]))
			b = rest[size:]
		}
	}
	r.body = b
	return nil
}

// count reads a number that counts bytes or items of which each has a byte: one
// beyond what is left is a lie.
func count(b []byte) (n int, rest []byte, ok bool) {
	v, k := binary.Uvarint(b)
	if k <= 0 || v > uint64(len(b)-k) {
		return 0, nil, false
	}
	return int(v), b[k:], true
}

// frameOf returns the ready frame of a delivered message's envelope.
func frameOf(body []byte, seq uint64, ts int64) []byte {
	const position = 40 // ,"seq":…,"ts":…
	b := make([]byte, wire.HeaderRoom, wire.HeaderRoom+len(body)+position)
	b = append(b, body...)
	if seq == 0 {
		return wire.Seal(b)
	}
	return wire.Seal(appendPosition(b, seq, ts))
}
