package chathub

import "context"

// Event is an event that a client sent. Handlers and middleware get it; until
// the handler returns, its fields may be read, and Data replaced by middleware.
type Event struct {
	Type string
	ID   string // empty where the client wants no answer
	Room string
	To   string
	// Data is the payload, one JSON value as the client sent it; nil where it
	// sent none. Its bytes are not reused, and must not be modified.
	Data []byte
}

// Handler handles an event of a client. What it returns is sent as the data of
// the ack; an error, as an error: see [Error].
type Handler func(ctx context.Context, c *Client, e *Event) (any, error)

// Middleware wraps the handling of every client event, built-in ones included.
// The context given to the handler ends when the client goes.
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
