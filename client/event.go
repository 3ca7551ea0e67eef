package client

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The types of events that every server has. Applications have others.
const (
	TypeRoomMessage    = "room-message"
	TypePrivateMessage = "private-message"
	TypeNotification   = "notification"
	TypeMessage        = "message" // a volatile message to everyone
	TypeChanged        = "message-changed"
	TypeRead           = "read"
	TypeTyping         = "typing"
	TypeStopTyping     = "stop-typing"
	TypeUserJoined     = "user-joined"
	TypeUserLeft       = "user-left"
	TypeUserOnline     = "user-online"
	TypeUserOffline    = "user-offline"
	TypeOnlineUsers    = "online-users"
	TypeStateChanged   = "state-changed"
	TypeRemoved        = "removed" // the application took this client out of the room

	// TypeGap is an event of the client itself, and no server can send it. The
	// log no longer has all messages after the last one, or has begun anew. The
	// newest ones follow. Position is the head of the log.
	TypeGap = "+gap"
)

// User is a person or program, as verified by the server.
type User struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Position is a place in the log of a room or inbox. Values of Seq compare only
// within one Epoch, which is one life of the log.
type Position struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Ref names a message: by Seq in a room, by ID and Author in a conversation.
type Ref struct {
	Seq    uint64
	ID     string
	Author string // the id of a user
}

// Reaction is how many users have reacted with one key, and the ids of the
// first 20.
type Reaction struct {
	Count int      `json:"count"`
	Users []string `json:"users"`
}

// Event is one event from the server. It must not be changed.
type Event struct {
	Type string
	// ID was chosen by the author, or else by the server.
	ID   string
	Room string
	To   string
	// From is the author. It is zero if the application is.
	From User
	// Position is zero for volatile events. Epoch is empty if the client does
	// not know the log, as in a room that it has not joined itself.
	Position Position
	// Time is when the server stored or sent it. Zero if it did not say.
	Time time.Time
	// Re is the message that this one replies to, if any.
	Re Ref
	// Trace is where the event belongs in a distributed trace, as a traceparent
	// (W3C Trace Context, section 3.2), or empty.
	Trace string
	// Data is the payload. Nil if there is none, as in a deleted message.
	Data jsontext.Value

	// The present form of a message that has changed. Version is the Seq of its
	// newest change. Mine are the keys of this user's own reactions.
	Version   uint64
	Edited    time.Time
	Deleted   time.Time
	Reactions map[string]Reaction
	Mine      []string
}

// Decode decodes the data into v, which must be a pointer.
func (e Event) Decode(v any) error { return json.Unmarshal(e.Data, v) }

// Change is what has become of a message: the data of a [TypeChanged]. It is
// the whole state, not a difference. Position.Seq of the event is its version.
type Change struct {
	Message Ref
	Kind    string // edited, deleted or reacted
	// Data is nil unless the message was ever edited.
	Data      jsontext.Value
	Edited    time.Time
	Deleted   time.Time
	Reactions map[string]Reaction
}

// Change returns the data of a [TypeChanged]. It reports false for other events
// and for data that is not valid.
func (e Event) Change() (Change, bool) {
	var d struct {
		Seq     uint64 `json:"seq"`
		ID      string `json:"id"`
		Author  string `json:"author"`
		Change  string `json:"change"`
		Message struct {
			Data      jsontext.Value      `json:"data"`
			Edited    int64               `json:"edited"`
			Deleted   int64               `json:"deleted"`
			Reactions map[string]Reaction `json:"reactions"`
		} `json:"message"`
	}
	if e.Type != TypeChanged || json.Unmarshal(e.Data, &d) != nil {
		return Change{}, false
	}
	return Change{
		Message: Ref{Seq: d.Seq, ID: d.ID, Author: d.Author}, Kind: d.Change,
		Data: d.Message.Data, Edited: timeOf(d.Message.Edited), Deleted: timeOf(d.Message.Deleted),
		Reactions: d.Message.Reactions,
	}, true
}

// Receipt says where the server stored a message or change: in the log of the
// room, or in this user's own inbox. That of a notification to another user has
// no position and no time.
type Receipt struct {
	ID       string
	Position Position
	Time     time.Time
	// Duplicate reports that it was stored before, or that nothing had to
	// change.
	Duplicate bool
}

// Marker is how far this user has read a room or conversation.
type Marker struct {
	Seq uint64 `json:"seq"` // 0: nowhere yet
	// Unread counts the messages of others after Seq and up to Head, from 0 to
	// 100. 100 means that many or more. -1 means that the server did not say.
	Unread int    `json:"unread"`
	Head   uint64 `json:"head"`
}

// Query selects a page of a log. The zero value selects the newest messages.
// The fields have the meanings of the protocol, section 4.
type Query struct {
	Before uint64   `json:"before,omitzero"`
	After  uint64   `json:"after,omitzero"`
	Around uint64   `json:"around,omitzero"`
	Limit  int      `json:"limit,omitzero"` // 0: 50. The server has a limit of its own
	Types  []string `json:"types,omitempty"`
	Re     uint64   `json:"re,omitzero"` // replies to this message of a room
}

// Page is a part of a log, oldest message first, in the present form. A page
// may have fewer messages than the limit, or none, while there are more.
type Page struct {
	Messages []Event
	More     bool // whether there are older messages
	Newer    bool // whether there are newer ones; false without After and Around
	// Next is where to read on: the next Before or, with After alone, the next
	// After. 0: use the Seq of the oldest or newest message.
	Next uint64
}

// frame is an envelope from the server.
type frame struct {
	Type      string              `json:"type"`
	ID        string              `json:"id"`
	Room      string              `json:"room"`
	To        string              `json:"to"`
	From      *User               `json:"from"`
	Seq       uint64              `json:"seq"`
	TS        int64               `json:"ts"`
	Ack       bool                `json:"ack"`
	Re        jsontext.Value      `json:"re"`
	Trace     string              `json:"trace"`
	Version   uint64              `json:"version"`
	Edited    int64               `json:"edited"`
	Deleted   int64               `json:"deleted"`
	Reactions map[string]Reaction `json:"reactions"`
	Mine      []string            `json:"mine"`
	Data      jsontext.Value      `json:"data"`
}

// maxSeq is the largest position that all clients can represent.
const maxSeq = 1<<53 - 1

// parse decodes an envelope. It reports false if it is not one of the protocol.
func parse(b []byte) (f frame, ok bool) {
	if json.Unmarshal(b, &f) != nil || !isType(f.Type) || f.Seq > maxSeq {
		return frame{}, false
	}
	return f, true
}

// isType reports whether s matches [a-z0-9][a-z0-9:._-]{0,63}.
func isType(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == ':' || c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// event returns the frame as the application sees it.
func (f *frame) event(epoch string) Event {
	e := Event{
		Type: f.Type, ID: f.ID, Room: f.Room, To: f.To, Time: timeOf(f.TS), Re: f.ref(), Trace: f.Trace, Data: f.Data,
		Version: f.Version, Edited: timeOf(f.Edited), Deleted: timeOf(f.Deleted), Reactions: f.Reactions, Mine: f.Mine,
	}
	if f.From != nil {
		e.From = *f.From
	}
	if f.Seq > 0 {
		e.Position = Position{Epoch: epoch, Seq: f.Seq}
	}
	return e
}

func (f *frame) ref() (r Ref) {
	if f.Re == nil {
		return Ref{}
	}
	if f.Re.Kind() == jsontext.KindNumber {
		_ = json.Unmarshal(f.Re, &r.Seq) // not a whole number: no reply
		return r
	}
	var named struct {
		ID     string `json:"id"`
		Author string `json:"author"`
	}
	if json.Unmarshal(f.Re, &named) != nil {
		return Ref{}
	}
	return Ref{ID: named.ID, Author: named.Author}
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// request is an envelope to the server.
type request struct {
	Type  string         `json:"type"`
	ID    string         `json:"id,omitzero"`
	Room  string         `json:"room,omitzero"`
	To    string         `json:"to,omitzero"`
	Re    jsontext.Value `json:"re,omitzero"`
	Trace string         `json:"trace,omitzero"`
	Data  jsontext.Value `json:"data,omitzero"`
}

// encode returns the bytes of an envelope, which are the same each time that it
// is sent.
func (r request) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, &Error{Code: CodeBadRequest, Message: "A name or id is not valid UTF-8"}
	}
	return b, nil
}

// encodeData returns v as JSON.
func encodeData(v any) (jsontext.Value, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, &Error{Code: CodeBadRequest, Message: "The data cannot be encoded: " + err.Error()}
	}
	return b, nil
}
